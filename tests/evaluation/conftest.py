"""SAEs made by hand, for which the right answers are known."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from distsae.model import SAE, SAEConfig

HOOK = "blocks.0.resid_post"
D_IN = 32


def _config(allocation: str, k: int, d_sae: int, **changes: object) -> SAEConfig:
    values = {
        "d_in": D_IN,
        "d_sae": d_sae,
        "k": k,
        "allocation": allocation,
        "hook_name": HOOK,
        "hook_layer": 0,
        "model_name": "tiny",
        "context_size": 16,
        "prepend_bos": True,
    }
    return SAEConfig(**(values | changes))


def _perfect_sae(allocation: str = "mutual_choice", **changes: object) -> SAE:
    """Has two features for each dimension, one for each sign, so that the reconstruction is the activation."""
    both = torch.cat([torch.eye(D_IN), -torch.eye(D_IN)])
    quota = torch.ones(2 * D_IN) if allocation == "feature_choice" else None
    return SAE(
        _config(allocation, 2 * D_IN, 2 * D_IN, **changes),
        W_enc=both.t().contiguous(),
        W_dec=both,
        b_enc=torch.zeros(2 * D_IN),
        b_dec=torch.zeros(D_IN),
        threshold=None if allocation == "token_choice" else torch.zeros(2 * D_IN),
        quota_per_token=quota,
    )


def _constant_sae(output: Tensor, **changes: object) -> SAE:
    """Has features that never fire, so that the reconstruction is always `output`."""
    return SAE(
        _config("mutual_choice", 4, 48, **changes),
        W_enc=torch.zeros(D_IN, 48),
        W_dec=torch.nn.functional.normalize(torch.randn(48, D_IN, generator=torch.Generator().manual_seed(0)), dim=1),
        b_enc=-torch.ones(48),
        b_dec=output,
        threshold=torch.zeros(48),
    )


def _random_sae(allocation: str = "mutual_choice", threshold: float = 2.0, **changes: object) -> SAE:
    """Has random features with tied weights, some of which fire."""
    generator = torch.Generator().manual_seed(1)
    decoder = torch.nn.functional.normalize(torch.randn(64, D_IN, generator=generator), dim=1)
    quota = torch.arange(64, 0, -1, dtype=torch.float64)
    return SAE(
        _config(allocation, 6, 64, **changes),
        W_enc=decoder.t().contiguous(),
        W_dec=decoder,
        b_enc=torch.zeros(64),
        b_dec=0.1 * torch.randn(D_IN, generator=generator),
        threshold=None if allocation == "token_choice" else torch.full((64,), threshold),
        quota_per_token=6 * quota / quota.sum() if allocation == "feature_choice" else None,
    )


@pytest.fixture(scope="session")
def by_hand() -> SimpleNamespace:
    """Functions that make SAEs, `perfect`, `constant` and `random`, and their `hook` and `d_in`."""
    return SimpleNamespace(perfect=_perfect_sae, constant=_constant_sae, random=_random_sae, hook=HOOK, d_in=D_IN)


@pytest.fixture(scope="session")
def tiny_model_dir(tiny_model_dir, tiny_corpus, tmp_path_factory):
    """The tiny model after some training: otherwise no ablation would raise its loss."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = tmp_path_factory.mktemp("trained") / "tiny-gpt2"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    contexts = _contexts(tokenizer, tiny_corpus)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(120):
        batch = contexts[(torch.arange(32) + 32 * step) % len(contexts)]
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def _contexts(tokenizer, corpus) -> Tensor:
    """The text in contexts of 16 tokens, the first of them BOS."""
    ids = [token for line in corpus.read_text().splitlines() for token in tokenizer(json.loads(line)["text"]).input_ids]
    rows = torch.tensor(ids[: len(ids) // 15 * 15]).view(-1, 15)
    return torch.nn.functional.pad(rows, (1, 0), value=tokenizer.bos_token_id)


@pytest.fixture(scope="session")
def tiny_model(tiny_model_dir):
    from distsae.language_model import load_language_model

    return load_language_model(str(tiny_model_dir)).model


@pytest.fixture(scope="session")
def token_ids(tiny_model_dir, tiny_corpus) -> Tensor:
    from transformers import AutoTokenizer

    return _contexts(AutoTokenizer.from_pretrained(tiny_model_dir), tiny_corpus)[:70:10]


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory, tiny_model_dir, tiny_corpus):
    """A sealed store of the tiny model: two hooks, contexts of 16, 20% held out."""
    from distsae.producer import ProduceConfig, produce

    path = tmp_path_factory.mktemp("store") / "store"
    produce(
        ProduceConfig(
            model=str(tiny_model_dir),
            corpus=str(tiny_corpus),
            hooks=(HOOK, "blocks.0.mlp_hidden"),
            out=str(path),
            context_length=16,
            max_rows=15 * 100,
            heldout_share=0.2,
            dtype="fp32",
            device="cpu",
        )
    )
    return path
