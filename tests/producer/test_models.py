"""Models with which a job must not begin or go on, and those with which it may."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from distsae.errors import WrongInput
from distsae.language_model import find_model, model_of_store, refuse_another_model
from distsae.producer import ProduceConfig, produce
from distsae.store import Store
from tests.language_model.changed_models import copied, with_code


@pytest.fixture
def config(tiny_model_dir, tiny_corpus, tmp_path):
    return ProduceConfig(
        model=str(copied(tiny_model_dir, tmp_path / "model")),
        corpus=str(tiny_corpus),
        hooks=("blocks.1.resid_pre",),
        out=str(tmp_path / "store"),
        context_length=32,
        max_rows=2000,
        unit_rows=700,
        dtype="fp32",
        device="cpu",
    )


def _refused_at_once(config, capsys, match):
    with pytest.raises(WrongInput, match=match):
        produce(config)
    assert "tokenising" not in capsys.readouterr().err
    assert not Path(config.out, "dataset.json").exists()


def test_a_job_that_goes_on_with_another_model_is_refused_before_anything_else(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with_code(Path(config.model))
    trusting = replace(config, trust_remote_code=True)
    produce(trusting)
    store = Path(config.out)
    assert Store.open(store).attributes.code_digest == find_model(config.model, trust_remote_code=True).code_digest
    # What a job that was stopped leaves, but for the tokenised corpus, which would have to be made again.
    (store / "dataset.json").unlink()
    (store / "commits" / "unit-000000.json").unlink()
    shutil.rmtree(store / "contexts")
    capsys.readouterr()
    _refused_at_once(trusting, capsys, "must be the one that made the store .* blocks.1.resid_pre that differ")


def test_a_job_goes_on_with_the_same_model(config):
    produce(config)
    store = Path(config.out)
    digest = Store.open(store).content_digest
    (store / "dataset.json").unlink()
    (store / "commits" / "unit-000000.json").unlink()
    produce(config)
    assert Store.open(store).content_digest == digest
    assert "code_digest" not in Store.open(store).attributes.to_json()


def _with_one_more_token(model):
    tokenizer = find_model(model).tokenizer
    assert len(tokenizer) == 280
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(model)


def test_one_more_token_than_the_embedding_is_harmless_until_a_text_has_it(config, tmp_path):
    _with_one_more_token(config.model)
    produce(config)
    text = tmp_path / "text.txt"
    text.write_text("the river stone light house " * 200 + "zebra")
    with pytest.raises(WrongInput, match=r"got the token 280 \(zebra\) and 280 embeddings; save the model's own"):
        produce(replace(config, corpus=str(text), out=str(tmp_path / "other")))
    assert not (tmp_path / "other" / "attributes.json").exists()


def test_a_model_without_its_tokenizer_is_refused(config, capsys):
    for file in Path(config.model).glob("tokenizer*"):
        file.unlink()
    _refused_at_once(config, capsys, "must hold its own tokenizer; got one of 1 tokens for 280 embeddings")


@pytest.mark.parametrize(
    ("hook", "got"), [("transformer.wpe", r"the shape \[1, 3, 32\]"), ("transformer", "a BaseModelOutput")]
)
def test_a_hook_that_is_no_tensor_of_each_context_is_refused(config, capsys, hook, got):
    _refused_at_once(replace(config, hooks=(hook,)), capsys, rf"must be a tensor \[batch, length, d\].*got {got}")


def test_a_store_of_an_adapter_says_so_and_is_one_of_its_model(config, tiny_model_dir, tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(config.model)
    made = peft.get_peft_model(base, peft.LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    for name, parameter in made.named_parameters():
        if "lora" in name:
            parameter.data = 0.3 * torch.randn_like(parameter)
    made.save_pretrained(tmp_path / "adapter")
    adapted = replace(config, model=str(tmp_path / "adapter"))
    produce(adapted)
    store = Store.open(adapted.out)
    files, attributes = find_model(adapted.model), store.attributes
    assert (attributes.model, attributes.base_model) == (adapted.model, config.model)
    assert (attributes.model_digest, attributes.adapter_digest) == (files.digest, files.adapter.digest)
    assert attributes.library_versions["peft"] == peft.__version__
    loaded = model_of_store(store, None, trust_remote_code=False, tokenizer=True, code=True)
    refuse_another_model(
        loaded.model, loaded.name, store.path, attributes, store.units[0], attributes.hooks
    )  # the rows are its activations
    with pytest.raises(WrongInput, match="must be the model that produced the store, whose weights have digest"):
        model_of_store(store, config.model, trust_remote_code=False, tokenizer=True, code=True)
    with pytest.raises(WrongInput, match=r"model_digest.*adapter_digest|adapter_digest.*model_digest"):
        produce(replace(config, out=adapted.out))
    produce(replace(config, out=str(tmp_path / "plain")))
    plain = Store.open(tmp_path / "plain").attributes
    assert {"base_model", "adapter_digest"}.isdisjoint(plain.to_json())


def test_a_store_is_the_same_if_the_model_is_split(config, tmp_path, capsys):
    """Parts on the disk go the same way through transformers as parts on other GPUs."""
    produce(config)
    parts = ("transformer.wte", "transformer.wpe", "transformer.h.0", "lm_head")
    split = dict.fromkeys(parts, "cpu") | {"transformer.h.1": "disk", "transformer.ln_f": "disk"}
    produce(replace(config, device="auto", out=str(tmp_path / "split"), device_map=split))
    assert "is split into 6 parts: 4 on cpu, 2 on disk" in capsys.readouterr().err
    assert Store.open(tmp_path / "split").content_digest == Store.open(config.out).content_digest
    assert Store.open(tmp_path / "split").fingerprint == Store.open(config.out).fingerprint
    (tmp_path / "split" / "dataset.json").unlink()
    (tmp_path / "split" / "commits" / "unit-000000.json").unlink()
    produce(
        replace(config, device="auto", out=str(tmp_path / "split"), device_map="auto")
    )  # it may go on split in another way
    assert Store.open(tmp_path / "split").content_digest == Store.open(config.out).content_digest
