"""What every part's tests share: a tiny GPT-2 with its tokenizer, and a tiny corpus."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a job in the background; tests send it, as Ctrl-C does
    signal.signal(signal.SIGINT, signal.default_int_handler)

_TEXT = """
the a river stone light house wind rain small bright old new green walks runs sings falls turns opens closes over under
near beyond and but while because door garden letter music winter summer morning evening bird fish horse child teacher
friend road bridge city field forest mountain sea boat bread water fire
"""
WORDS = _TEXT.split()


def tiny_documents(count: int = 200, seed: int = 0) -> list[str]:
    """Short documents from a word chain with some structure: each word prefers a few successors."""
    rng = np.random.default_rng(seed)
    successors = rng.integers(0, len(WORDS), (len(WORDS), 4))
    texts = []
    for _ in range(count):
        word, words = int(rng.integers(len(WORDS))), []
        for _ in range(int(rng.integers(20, 90))):
            words.append(WORDS[word])
            word = int(successors[word, rng.integers(4)]) if rng.random() < 0.9 else int(rng.integers(len(WORDS)))
        texts.append(" ".join(words) + ".")
    return texts


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSONL file of 200 short documents."""
    path = tmp_path_factory.mktemp("corpus") / "tiny.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_documents()), encoding="utf-8")
    return path


def save_tiny_model(path: Path) -> Path:
    """Saves an untrained GPT-2 (2 layers, 32 wide, 64 positions) with a byte-level BPE tokenizer of 280 tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(tiny_documents(), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=64,
    ).save_pretrained(path)
    end = tokenizer.token_to_id("<|endoftext|>")
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_layer=2,
        n_embd=32,
        n_head=2,
        n_positions=64,
        bos_token_id=end,
        eos_token_id=end,
        initializer_range=0.2,
    )
    generator_state = torch.get_rng_state()
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(path)
    torch.set_rng_state(generator_state)
    return path


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model that `save_tiny_model` makes."""
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny-gpt2")


@pytest.fixture(scope="session")
def tiny_store(tiny_model_dir: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed store of the tiny model's activations: two hooks, 32 wide, 8,700 training rows in chunks of 256."""
    from distsae.producer import ProduceConfig, produce

    path = tmp_path_factory.mktemp("store") / "tiny"
    produce(
        ProduceConfig(
            model=str(tiny_model_dir),
            corpus=str(tiny_corpus),
            hooks=("blocks.0.resid_post", "blocks.1.resid_post"),
            out=str(path),
            context_length=32,
            max_rows=9000,
            unit_rows=2000,
            chunk_rows=256,
            heldout_share=0.03,
            device="cpu",
        )
    )
    return path


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The URL of an empty bucket on an S3-compatible server of our own, on loopback; the environment leads to it."""
    server = subprocess.Popen(
        [sys.executable, "-P", Path(__file__).with_name("object_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    port = server.stdout.readline().decode().strip()
    assert port, "the server did not start"
    endpoint = f"http://127.0.0.1:{port}"
    variables = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        try:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            direct.open(urllib.request.Request(f"{endpoint}/bucket", method="PUT")).close()
            yield "s3://bucket"
        finally:
            server.terminate()
            server.communicate()
