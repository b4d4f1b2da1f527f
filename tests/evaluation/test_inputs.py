import json
from pathlib import Path

import pytest
import torch

from distsae.errors import WrongInput
from distsae.evaluation import EvaluateConfig, evaluate
from distsae.evaluation.inputs import open_inputs
from distsae.evaluation.out_file import default_out
from distsae.producer import ProduceConfig, produce
from distsae.store import Store
from tests.language_model.changed_models import copied, with_code


@pytest.fixture
def run(tmp_path, by_hand) -> Path:
    by_hand.random().save(tmp_path / "run" / "sae")
    (tmp_path / "run" / "config.yaml").write_text("seed: 0\n")
    return tmp_path / "run"


def opened(run, store, **changes):
    return open_inputs(EvaluateConfig(run=str(run), store=str(store), device="cpu", **changes))


def test_heldout_contexts_shuffled_and_cut(run, tiny_store):
    store = Store.open(tiny_store)
    every = opened(run, tiny_store).token_ids
    stored = store.heldout_contexts()
    assert not torch.equal(every, stored)
    assert sorted(every.tolist()) == sorted(stored.tolist())
    cut = opened(run, tiny_store, max_tokens=3 * 16 + 5).token_ids
    assert torch.equal(cut, every[:3])
    assert len(opened(run, tiny_store, max_tokens=1).token_ids) == 1
    assert not torch.equal(opened(run, tiny_store, seed=1).token_ids, every)
    assert torch.equal(opened(run, tiny_store).token_ids, every)


def test_fewer_tokens_than_were_asked_for_are_said(run, tiny_store, capsys):
    found = opened(run, tiny_store, max_tokens=10**6).token_ids
    words = f"the held-out contexts of the store have {found.numel():,} tokens, not the 1,000,000 of `max_tokens`"
    assert words in capsys.readouterr().err.splitlines()
    opened(run, tiny_store)
    opened(run, tiny_store, max_tokens=64)
    assert "max_tokens" not in capsys.readouterr().err


def test_another_corpus_is_packed_like_the_store(run, tiny_store, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("river stone light house wind rain " * 40)
    found = opened(run, tiny_store, corpus=str(other), max_tokens=64)
    assert found.token_ids.shape == (4, 16)
    assert (found.token_ids[:, 0] == found.model.tokenizer.bos_token_id).all()
    decoded = found.model.tokenizer.decode(found.token_ids[0, 1:])
    assert "wind" in decoded


def test_the_corpus_has_the_settings_that_its_errors_name(run, tiny_store, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"body": "river stone light house wind rain " * 40}) + "\n")
    with pytest.raises(WrongInput, match=r"`text_field` \(=text\) must name a text, .*set --text_field"):
        opened(run, tiny_store, corpus=str(other), max_tokens=64)
    assert opened(run, tiny_store, corpus=str(other), text_field="body", max_tokens=64).token_ids.shape == (4, 16)
    with pytest.raises(WrongInput, match=r"`split` \(=test\) must belong to a data set with splits"):
        opened(run, tiny_store, corpus=str(other), split="test")
    with pytest.raises(WrongInput, match=r"`corpus_revision` \(=v1\) must belong to a Hugging Face data set"):
        opened(run, tiny_store, corpus=str(other), text_field="body", corpus_revision="v1")
    with pytest.raises(WrongInput, match=r"`split` \(=test\) must be given with `corpus`; got none; give --corpus"):
        opened(run, tiny_store, split="test")


def test_run_and_sae_folders(run, tmp_path, by_hand):
    assert default_out(run) == run / "evaluation.json"
    assert default_out(run / "sae").resolve() == (run / "evaluation.json").resolve()
    by_hand.random().save(tmp_path / "lone")
    assert default_out(tmp_path / "lone") == tmp_path / "lone" / "evaluation.json"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_an_sae_of_another_dtype_is_measured_in_fp32(tmp_path, tiny_store, by_hand, dtype):
    by_hand.random().to(dtype).save(tmp_path / "sae")
    _, measured = evaluate(EvaluateConfig(run=str(tmp_path), store=str(tiny_store), device="cpu", max_tokens=64))
    by_hand.random().to(dtype).float().save(tmp_path / "sae")
    _, expected = evaluate(EvaluateConfig(run=str(tmp_path), store=str(tiny_store), device="cpu", max_tokens=64))
    assert measured["fvu"] == expected["fvu"]
    assert measured["frozen_rule"]["l0"] == expected["frozen_rule"]["l0"]


def test_missing_run_and_unfinished_run(run, tiny_store, tmp_path):
    with pytest.raises(WrongInput, match="no such folder"):
        opened(tmp_path / "nowhere", tiny_store)
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    with pytest.raises(WrongInput, match=r"`run` \(=.*begun\) must be .* got no config.json with sae.safetensors"):
        opened(tmp_path / "begun", tiny_store)


def test_store_that_does_not_fit(run, tiny_store, tmp_path, by_hand):
    with pytest.raises(WrongInput, match="distsae produce"):
        opened(run, tmp_path)
    by_hand.random(hook_name="blocks.1.mlp_out").save(tmp_path / "other" / "sae")
    with pytest.raises(WrongInput, match=r"blocks\.1\.mlp_out.*must be in the store"):
        opened(tmp_path / "other", tiny_store)
    by_hand.random(hook_name="blocks.0.mlp_hidden").save(tmp_path / "wide" / "sae")
    with pytest.raises(WrongInput, match="d_in 32; got 128"):
        opened(tmp_path / "wide", tiny_store)


def test_model_that_does_not_fit(run, tiny_store, tiny_model_dir, tmp_path):
    with pytest.raises(WrongInput, match="`model`"):
        opened(run, tiny_store, model=str(tmp_path / "nowhere"))
    from distsae.language_model import load_language_model

    other = load_language_model(str(tiny_model_dir))
    with torch.no_grad():
        other.model.transformer.wte.weight.mul_(2.0)
    other.model.save_pretrained(tmp_path / "changed")
    other.tokenizer.save_pretrained(tmp_path / "changed")
    with pytest.raises(WrongInput, match="must be the model that produced the store"):
        opened(run, tiny_store, model=str(tmp_path / "changed"))


def test_a_model_that_gives_other_activations_is_refused_although_its_files_are_the_same(
    run, tiny_model_dir, tiny_corpus, tmp_path, monkeypatch
):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    produce(
        ProduceConfig(
            model=str(with_code(copied(tiny_model_dir, tmp_path / "model"))),
            corpus=str(tiny_corpus),
            hooks=("blocks.0.resid_post",),
            out=str(tmp_path / "store"),
            context_length=16,
            max_rows=600,
            device="cpu",
            trust_remote_code=True,
        )
    )
    with pytest.raises(WrongInput, match="must be the one that made the store"):
        opened(run, tmp_path / "store", trust_remote_code=True)
    with pytest.raises(WrongInput, match="set --trust_remote_code"):
        opened(run, tmp_path / "store")
    (tmp_path / "model" / "more.py").touch()
    with pytest.raises(WrongInput, match="must run the code that produced the store"):
        opened(run, tmp_path / "store", trust_remote_code=True)


def test_corpus_that_does_not_fit(run, tiny_store, tmp_path):
    with pytest.raises(WrongInput, match="`corpus`"):
        opened(run, tiny_store, corpus=str(tmp_path / "nowhere.txt"))
    (tmp_path / "short.txt").write_text("rain")
    with pytest.raises(WrongInput, match="fill a context of 16 tokens; give more text"):
        opened(run, tiny_store, corpus=str(tmp_path / "short.txt"))


def test_device_that_is_not_there(run, tiny_store):
    with pytest.raises(WrongInput, match=r"`device` \(=abacus\) must be auto or a device"):
        open_inputs(EvaluateConfig(run=str(run), store=str(tiny_store), device="abacus"))
