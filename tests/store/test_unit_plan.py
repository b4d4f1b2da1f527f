import numpy as np
import pytest

from distsae.store import (
    contexts_before,
    contexts_per_unit,
    row_order,
    unit_contexts,
    unit_count,
    unit_sizes,
    unit_split,
)
from tests.store.synthetic import attributes


@pytest.mark.parametrize(("contexts", "heldout", "unit_rows"), [(40, 4, 100), (7, 1, 1), (100, 3, 10_000), (13, 2, 33)])
def test_every_context_is_in_one_unit(contexts, heldout, unit_rows):
    attrs = attributes(contexts=contexts, heldout_contexts=heldout, unit_rows=unit_rows)
    units = unit_contexts(attrs)
    assert sorted(np.concatenate(units)) == list(range(contexts))
    assert len(units[-1]) == heldout
    most = contexts_per_unit(unit_rows, attrs.rows_per_context)
    sizes = [len(unit) for unit in units[:-1]]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    assert [unit_split(attrs, unit, len(units)) for unit in range(len(units))] == ["train"] * len(sizes) + ["heldout"]


def test_permuted_by_the_seed():
    first, again, other = (unit_contexts(attributes(seed=seed)) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    assert (np.concatenate(first) != np.arange(40)).any()


def test_the_permutation_is_the_one_of_existing_stores():
    """A change of these numbers would mix two orders in a store that is continued."""
    assert unit_contexts(attributes())[0][:6].tolist() == [6, 4, 20, 3, 8, 39]
    assert row_order(attributes(), 1, 50)[:6].tolist() == [6, 23, 16, 1, 29, 13]


@pytest.mark.parametrize("heldout_by", ["documents", "end"])
def test_held_out_documents_are_the_last_contexts(heldout_by):
    units = unit_contexts(attributes(heldout_by=heldout_by, heldout_share=0.1))
    assert sorted(units[-1]) == [36, 37, 38, 39]
    assert sorted(np.concatenate(units[:-1])) == list(range(36))
    other = unit_contexts(attributes(heldout_by=heldout_by, heldout_share=0.1, seed=1))
    assert sorted(other[-1]) == [36, 37, 38, 39]  # whatever the seed
    assert (np.concatenate(other) != np.concatenate(units)).any()


def test_rows_are_permuted_differently_in_each_unit():
    attrs = attributes()
    assert sorted(row_order(attrs, 0, 50)) == list(range(50))
    assert (row_order(attrs, 0, 50) != row_order(attrs, 1, 50)).any()


@pytest.mark.parametrize("contexts", [0, 1, 4, 5, 13, 40, 41])
@pytest.mark.parametrize("heldout", [0, 1, 4])
@pytest.mark.parametrize("unit_rows", [1, 33, 100])
def test_counts_without_a_list_are_those_of_the_list(contexts, heldout, unit_rows):
    attrs = attributes(contexts=max(contexts, heldout), heldout_contexts=heldout, unit_rows=unit_rows)
    train = unit_sizes(attrs)[:-1] if heldout else unit_sizes(attrs)
    assert unit_count(attrs) == len(unit_sizes(attrs))
    assert [contexts_before(attrs, unit) for unit in range(len(train) + 2)] == [
        sum(train[:unit]) for unit in range(len(train) + 2)
    ]


def test_counts_of_a_stranger_take_no_time():
    attrs = attributes(contexts=10**15, unit_rows=1)
    assert unit_count(attrs) == 10**15 - 4 + 1
    assert contexts_before(attrs, 10**18) == 10**15 - 4
