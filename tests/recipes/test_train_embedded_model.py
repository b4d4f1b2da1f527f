import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distsae.recipes import train_embedded_model
from distsae.recipes.embedded_corpus import is_validation
from distsae.recipes.train_embedded_model import (
    EmbeddedModelConfig,
    next_token_loss,
    train,
    train_tokenizer,
    unigram_entropy,
)

TEXTS = [f"Return number {i}, or raise ValueError if {i} is larger than the list of {i + 1} items." for i in range(200)]


@pytest.fixture(autouse=True)
def _restored():
    """Restores the number of threads and the seed of torch, which training sets, for other tests."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=()):
        yield
    torch.set_num_threads(threads)


def test_the_tokenizer_is_byte_level_and_ends_with_endoftext():
    tokenizer = train_tokenizer(TEXTS, 300, 32)
    text = "Grüße, 世界\n    indented"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.bos_token == tokenizer.eos_token == "<|endoftext|>"
    assert tokenizer.model_max_length == 32


def test_unigram_entropy_leaves_out_the_first_position():
    assert unigram_entropy(torch.tensor([[0, 1, 2], [0, 3, 4]]), 8) == pytest.approx(math.log(4))


def test_a_short_training_writes_a_folder_that_transformers_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(train_embedded_model, "documents", lambda: iter(TEXTS))
    config = EmbeddedModelConfig(
        out=str(tmp_path / "model"), steps=30, context_length=32, vocabulary=300, layers=1, width=32, heads=2, threads=1
    )
    figures = train(config)
    assert figures["steps"] == 30
    assert figures["validation_loss"] < math.log(300) - 1
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    held_out = [text for text in TEXTS if is_validation(text)]
    token_ids = train_embedded_model._contexts(held_out, tokenizer, 32)
    assert next_token_loss(model, token_ids) == pytest.approx(figures["validation_loss"], rel=1e-4)
    assert f"{figures['validation_loss']:.3f}" in (tmp_path / "model" / "README.md").read_text()


def test_a_training_ends_when_its_time_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(train_embedded_model, "documents", lambda: iter(TEXTS))
    seconds = itertools.count()  # the clock advances by a second each time it is read
    monkeypatch.setattr(train_embedded_model, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    config = EmbeddedModelConfig(
        out=str(tmp_path),
        steps=10**6,
        minutes=0.5,
        context_length=32,
        vocabulary=300,
        layers=1,
        width=32,
        heads=2,
        threads=1,
    )
    assert train(config)["steps"] == 29
