"""The model of a store is found by the store's name for it, and another one is refused by what differs."""

import dataclasses
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from distsae.errors import WrongInput
from distsae.language_model import find_model, model_of_store
from distsae.store import Store


class _Named:
    """A store with other attributes."""

    def __init__(self, store, **changes):
        self.path = store.path
        self.attributes = dataclasses.replace(store.attributes, **changes)


@pytest.fixture(scope="module")
def store(tiny_store):
    return Store.open(tiny_store)


def _found(store, given=None, **changes):
    settings = {"trust_remote_code": False, "tokenizer": True, "code": True} | changes
    return model_of_store(store, given, **settings)


def test_the_stores_model_and_its_move(store, tiny_model_dir, tmp_path):
    assert _found(store).digest == store.attributes.model_digest
    assert next(_found(store, dtype=torch.bfloat16).model.parameters()).dtype == torch.bfloat16
    moved = shutil.copytree(tiny_model_dir, tmp_path / "moved")
    assert _found(store, str(moved)).name == str(moved)
    with pytest.raises(WrongInput, match=r"\(=/gone\) must be .*\(the model of the store; give `--model` if it has"):
        _found(_Named(store, model="/gone"))
    with pytest.raises(WrongInput, match=r"`model` \(=/gone\) must be an existing path.*check the spelling$"):
        _found(store, "/gone")


def test_what_differs_is_refused_where_it_matters(store, tiny_model_dir, tmp_path):
    for changes, said in (
        ({"model_digest": "d"}, "whose weights have digest d; got"),
        (
            {"code_digest": "c"},
            "must run the code that produced the store, with digest c; got None; set --trust",
        ),
        ({"tokenizer_digest": "t"}, "must have the store's tokenizer, with digest t; got digest"),
    ):
        with pytest.raises(WrongInput, match=said):
            _found(_Named(store, **changes))
    assert _found(_Named(store, code_digest="c"), code=False)
    assert _found(_Named(store, tokenizer_digest="t"), tokenizer=False)
    other = shutil.copytree(tiny_model_dir, tmp_path / "other")
    model = AutoModelForCausalLM.from_pretrained(other)
    model.lm_head.weight.data.mul_(2)
    model.save_pretrained(other)
    with pytest.raises(WrongInput, match=f"got {find_model(str(other)).digest}; give `--model` with the same weights"):
        _found(store, str(other))


def test_activations_that_were_imported(store, tiny_model_dir):
    unknown = {"model_digest": "", "tokenizer_digest": "", "model_revision": "own activations"}
    with pytest.raises(WrongInput, match=r"`model` must be given for .*imported without it; add `--model`"):
        _found(_Named(store, model="", **unknown))
    assert _found(_Named(store, model="", **unknown), str(tiny_model_dir)).vocabulary
