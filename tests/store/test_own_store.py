"""Stores of the user's own activations: every row once, whole documents held out, wrong input without a trace."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.errors import WrongInput
from distsae.store import OwnStoreSettings, Store, merge_stores, verify_store
from distsae.store.own_store import write_own_store

SMALL = {"unit_rows": 64, "chunk_rows": 16}


def _rows(store, split):
    """Returns activations and ids of all rows of a split, in the order of the store."""
    chunks = store.chunks(split)
    acts = [store.read_chunk(store.attributes.hooks[0], chunk) for chunk in chunks]
    ids = [store.read_ids(unit) for unit in dict.fromkeys(chunk.unit for chunk in chunks)]
    names = ("token_id", "position", "document_id", "context_id")
    return torch.cat(acts), {name: torch.cat([getattr(found, name) for found in ids]) for name in names}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_row_of_every_context_is_there_once(dtype, tmp_path):
    acts = torch.randn(50, 7, 4).to(dtype)
    tokens = torch.arange(350).reshape(50, 7)
    store = Store.write(tmp_path / "s", acts, hook="layer 3", token_ids=tokens, excluded_positions=2, **SMALL)
    assert verify_store(store) == []
    assert store.attributes.dtype == {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, "fp32")
    assert (store.rows, store.heldout_rows) == (49 * 5, 5)
    found, seen = [], []
    for split in ("train", "heldout"):
        rows, ids = _rows(store, split)
        found += rows.tolist()
        seen += ids["token_id"].tolist()
        assert torch.equal(ids["position"], ids["token_id"] % 7)
        assert torch.equal(ids["document_id"], ids["token_id"] // 7)
    assert sorted(seen) == [token for token in range(350) if token % 7 >= 2]
    flat = acts.to(store.read_chunk("layer 3", store.chunks()[0]).dtype).reshape(350, 4)
    assert torch.equal(flat[seen], torch.tensor(found, dtype=flat.dtype))
    assert torch.equal(store.heldout_contexts(), tokens[49:])


def test_rows_are_permuted_inside_units_and_not_beyond(tmp_path):
    rows = torch.arange(200.0)[:, None].repeat(1, 3)
    store = Store.write(tmp_path / "s", rows, heldout_share=0, unit_rows=50, chunk_rows=25)
    for unit in range(4):
        ids = store.read_ids(unit).context_id
        assert sorted(ids.tolist()) == [*range(unit * 50, unit * 50 + 50)]
        assert ids.tolist() != sorted(ids.tolist())


@settings(deadline=None, max_examples=30)
@given(
    documents=st.lists(st.integers(0, 6), min_size=4, max_size=60), share=st.floats(0.05, 0.5), seed=st.integers(0, 3)
)
def test_whole_documents_are_held_out(documents, share, seed, tmp_path_factory):
    rows = torch.randn(len(documents), 2)
    path = tmp_path_factory.mktemp("own") / "s"
    store = Store.write(path, rows, document_ids=documents, heldout_share=share, seed=seed, **SMALL)
    train = _rows(store, "train")[1]["document_id"].tolist()
    heldout = _rows(store, "heldout")[1]["document_id"].tolist() if store.heldout_rows else []
    assert sorted(train + heldout) == sorted(documents)
    assert len(heldout) <= round(share * len(documents))
    fits = any(documents.count(one) <= round(share * len(documents)) for one in set(documents))
    assert store.attributes.heldout_by == ("end" if heldout and not fits else "documents")
    assert bool(set(train) & set(heldout)) <= (not fits)


def test_the_same_call_goes_on_and_another_one_is_refused(tmp_path, monkeypatch):
    rows = torch.randn(300, 3)
    whole = Store.write(tmp_path / "whole", rows, **SMALL)

    units = []

    def stop(count):
        units.append(count)
        if len(units) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store.write(tmp_path / "s", rows, on_rows=stop, **SMALL)
    kept = sorted(path.name for path in (tmp_path / "s/data").glob("*/*"))
    assert len(kept) == 3
    with pytest.raises(WrongInput, match="must hold a store of the same settings"):
        Store.write(tmp_path / "s", rows + 1, **SMALL)
    store = Store.write(tmp_path / "s", (part for part in rows.split(70)), **SMALL)
    assert {*kept} < {path.name for path in (tmp_path / "s/data").glob("*/*")}
    assert store.content_digest == whole.content_digest
    assert store.fingerprint == whole.fingerprint


NAN = torch.zeros(300, 3)
NAN[200, 1] = torch.nan


@pytest.mark.parametrize(
    ("acts", "options", "message"),
    [
        (NAN, {}, "`activations` must be finite; got an infinity or NaN in row 0 of context 200"),
        (
            torch.full((9, 3), 1e6),
            {"dtype": "fp16"},
            r"`dtype` \(=fp16\) must hold every activation; got 1e\+06",
        ),
        (torch.zeros(9, 3), {"token_ids": torch.zeros(8).long()}, r"`token_ids` must have the shape \[9, 1\], as the"),
        (torch.zeros(9, 3), {"token_ids": torch.zeros(9)}, "`token_ids` must hold whole numbers; got torch.float32"),
        (torch.zeros(9, 2, 3), {"token_ids": torch.zeros(18).long()}, r"the shape \[9, 2\].*got \[18\]"),
        (torch.zeros(9, 2, 3), {"document_ids": torch.zeros(9, 2).long()}, r"`document_ids` must have the shape \[9\]"),
        (torch.zeros(9, 3), {"excluded_positions": 1}, r"`excluded_positions` \(=1\) must be below the length of a"),
        (torch.zeros(9, 3), {"hook": "a/b"}, r"`hook` \(='a/b'\) must be a plain name"),
        (torch.zeros(9, 3), {"hook": "a\x1b[31m"}, r"`hook` \(='a.x1b\[31m'\) must be a plain name"),
        (torch.zeros(9, 3), {"token_ids": torch.full((9,), 2**31)}, "`token_ids` must be from 0 to 2147483647, or -1"),
        (torch.zeros(9, 3), {"token_ids": torch.full((9,), -2)}, "`token_ids` must be from 0 .*; got -2 to -2"),
        (torch.randn(9, 3) * 1e-7, {"dtype": "fp16"}, r"`dtype` \(=fp16\) must keep activations apart"),
        (
            torch.full((9, 3), 1e300, dtype=torch.float64),
            {},
            r"`dtype` \(=fp32\) must hold every activation.*; scale them down",
        ),
        (torch.zeros(9, 3), {"dtype": "int8"}, r"`dtype` \(=int8\) must be one of auto, fp16"),
        (torch.zeros(9, 3), {"heldout_share": 0.7}, r"`heldout_share` \(=0.7\) must be from 0 to 0.5"),
        (torch.zeros(9, 3), {"unit_rows": 0}, r"`unit_rows` \(=0\) must be at least 1"),
    ],
)
def test_wrong_input_leaves_nothing(acts, options, message, tmp_path):
    with pytest.raises(WrongInput, match=message):
        Store.write(tmp_path / "s", acts, **{**SMALL, **options})
    assert list(tmp_path.iterdir()) == []


def test_wrong_input_leaves_what_was_there(tmp_path):
    Store.write(tmp_path / "s", torch.randn(90, 3), **SMALL)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WrongInput):
        Store.write(tmp_path / "s", NAN, **SMALL)
    assert sorted(tmp_path.rglob("*")) == before


def test_settings_are_those_of_the_function():
    assert OwnStoreSettings().dtype == "auto"
    with pytest.raises(TypeError, match="unexpected keyword"):
        write_own_store("s", np.zeros((2, 2)), unknown=1)


@pytest.mark.parametrize("tokens", [None, torch.zeros(90).long()])
def test_stores_of_rows_without_text_can_be_merged(tokens, tmp_path):
    """No text is known that they could have in common; rows alone are no text."""
    stores = [
        str(Store.write(tmp_path / name, torch.randn(90, 3), seed=seed, token_ids=tokens, **SMALL).path)
        for seed, name in enumerate("ab")
    ]
    merged = merge_stores(stores, str(tmp_path / "both"))
    assert (merged.rows, merged.heldout_rows) == (176, 4)


def test_contexts_of_unknown_tokens_can_be_merged(tmp_path):
    stores = [str(Store.write(tmp_path / name, torch.randn(40, 20, 3), **SMALL).path) for name in "ab"]
    assert merge_stores(stores, str(tmp_path / "both")).heldout_rows == 40
