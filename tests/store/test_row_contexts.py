import dataclasses

import numpy as np
import pytest
import torch

from distsae.errors import TornData
from distsae.store import Store, UnitContexts, merge_stores
from tests.store.synthetic import attributes, write_store


def _expected(attrs, context_id):
    """The tokens of a context of the synthetic corpus."""
    tokens = (context_id * 7 + torch.arange(attrs.context_length)) % 50
    tokens += 50 * (int.from_bytes(attrs.corpus_fingerprint.removeprefix("c").encode()) % 1000)
    tokens[0] = 0
    return tokens


def _check(store: Store, attrs, unit: int) -> None:
    contexts = UnitContexts.read(store, unit)
    ids = store.read_ids(unit)
    rows = torch.arange(len(ids.token_id))
    context, position = contexts.where(rows)
    assert torch.equal(contexts.token_ids[context, position], ids.token_id)
    assert torch.equal(contexts.context_id[context], ids.context_id)
    for row in range(0, len(rows), 37):
        found = store.context_of(unit, row)
        assert torch.equal(found.token_ids, _expected(attrs, ids.context_id[row]))
        assert (found.position, found.context_id, found.document_id) == (
            ids.position[row],
            ids.context_id[row],
            ids.document_id[row],
        )


def test_the_text_of_every_row(tmp_path):
    attrs = attributes(excluded_positions=3)
    store = write_store(tmp_path / "s", attrs)
    for record in store.units:
        _check(store, attrs, record.index)


def test_units_of_merged_stores_keep_their_numbers(tmp_path):
    both = [attributes(), attributes(seed=1, corpus_fingerprint="cx")]
    for number, attrs in enumerate(both):
        write_store(tmp_path / str(number), attrs)
    merged = merge_stores([tmp_path / "0", tmp_path / "1"], tmp_path / "m", max_common_text=1)
    for unit, attrs in enumerate([both[0]] * 3 + [both[1]] * 3 + both):
        _check(merged, attrs, unit)


def test_contexts_in_the_order_of_the_model(tmp_path):
    store = write_store(tmp_path / "s")
    stored = store.array(0, "context_token_ids").read()
    assert np.array_equal(UnitContexts.read(store, 0).token_ids, stored)


def test_contexts_with_equal_tokens(tmp_path):
    def repeat(data):
        data.context_token_ids[:] = data.context_token_ids[0]
        data.rows["token_id"][:] = data.context_token_ids[0][data.rows["position"]]

    contexts = UnitContexts.read(write_store(tmp_path / "s", change=repeat), 0)
    assert sorted(contexts.context_id.tolist()) == sorted(set(contexts.ids.context_id.tolist()))
    assert torch.equal(contexts.context_id[contexts.context], contexts.ids.context_id)


@pytest.mark.parametrize("name", ["token_id", "position", "context_id"])
def test_rows_of_other_contexts_are_refused(tmp_path, name):
    store = write_store(tmp_path / "s")
    ids = store.read_ids(0)
    broken = getattr(ids, name).clone()
    broken[5] = broken[5] + (100 if name == "position" else 1)

    class Other(Store):
        def read_ids(self, unit_index):
            return dataclasses.replace(ids, **{name: broken})

    other = Other.open(tmp_path / "s")
    with pytest.raises(TornData, match="rows that are not those of its contexts"):
        UnitContexts.read(other, 0)
