import json
from dataclasses import replace

import pytest
import torch

from distsae.errors import WrongInput
from distsae.language_model import load_language_model, refuse_another_model
from distsae.producer import ProduceConfig, produce
from distsae.store import Store, merge_stores
from tests.conftest import tiny_documents

HOOKS = ("blocks.0.resid_post", "blocks.1.mlp_hidden")


@pytest.fixture(scope="module")
def config(tiny_model_dir, tiny_corpus, tmp_path_factory):
    return ProduceConfig(
        model=str(tiny_model_dir),
        corpus=str(tiny_corpus),
        hooks=HOOKS,
        out=str(tmp_path_factory.mktemp("stores") / "store"),
        context_length=32,
        max_rows=3000,
        unit_rows=700,
        chunk_rows=128,
        dtype="fp32",
        device="cpu",
    )


@pytest.fixture(scope="module")
def store(config):
    produce(config)
    return Store.open(config.out)


@pytest.fixture
def model(tiny_model_dir):
    return load_language_model(str(tiny_model_dir)).model


def _compare(model, store, hooks=HOOKS):
    for record in store.units:
        refuse_another_model(model, "m", store.path, store.attributes, record, hooks)


def test_the_same_model_passes_on_every_unit(model, store):
    _compare(model, store)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_the_same_model_passes_after_rounding(model, config, tmp_path, dtype):
    produce(replace(config, dtype=dtype, out=str(tmp_path / "s")))
    _compare(model, Store.open(tmp_path / "s"))


def test_the_same_model_in_half_precision_passes(config, tiny_model_dir, tmp_path):
    produce(replace(config, model_dtype="bf16", out=str(tmp_path / "s")))
    _compare(load_language_model(str(tiny_model_dir)).model, Store.open(tmp_path / "s"))


def test_excluded_tokens_are_not_compared(model, config, tmp_path, tiny_model_dir):
    end = load_language_model(str(tiny_model_dir)).tokenizer.eos_token_id
    produce(replace(config, excluded_tokens=(end,), out=str(tmp_path / "s")))
    _compare(model, Store.open(tmp_path / "s"))


def test_a_merged_store_is_compared_by_the_tokens_of_its_contexts(model, config, store, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_documents(seed=1)))
    produce(replace(config, corpus=str(other), out=str(tmp_path / "other")))
    merge_stores([store.path, tmp_path / "other"], tmp_path / "merged")
    _compare(model, Store.open(tmp_path / "merged"))


@pytest.mark.parametrize("part", ["transformer.wte", "transformer.h.0.mlp.c_proj", "transformer.h.0.attn.c_attn"])
def test_another_model_is_refused(model, store, part):
    weight = model.get_submodule(part).weight
    with torch.no_grad():
        weight.copy_(weight[torch.randperm(len(weight), generator=torch.Generator().manual_seed(0))])
    with pytest.raises(
        WrongInput, match=r"`model` \(=m\) must be the one that made the store .* differ .* by \d+\.\d%"
    ):
        _compare(model, store)


def test_weights_that_are_not_numbers_are_refused(model, store):
    with torch.no_grad():
        model.transformer.wte.weight[:] = float("nan")
    with pytest.raises(WrongInput, match="must be the one that made the store"):
        _compare(model, store)


def test_layers_above_the_hooks_do_not_matter(model, store):
    with torch.no_grad():
        model.transformer.ln_f.weight[:] = 7
    _compare(model, store)
