import pytest

from distsae.errors import WrongInput
from distsae.reporting.features.plan import parts_of
from tests.store.synthetic import attributes, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("stores") / "s")


def test_every_context_once(store):
    parts = parts_of(store, "train", 10**6, 40)
    assert [part.number for part in parts] == list(range(9))
    assert [part.ordinal for part in parts] == [0, 5, 10, 12, 17, 22, 24, 29, 34]
    assert [(part.unit, part.first, part.contexts) for part in parts[:3]] == [(0, 0, 5), (0, 5, 5), (0, 10, 2)]


def test_whole_contexts_up_to_max_rows(store):
    assert sum(part.contexts for part in parts_of(store, "train", 8 * 15 + 7, 40)) == 15
    assert [(part.unit, part.contexts) for part in parts_of(store, "heldout", 1, 1)] == [(3, 1)]


def test_a_split_without_rows_and_a_bounded_store(tmp_path, store):
    empty = write_store(tmp_path / "a", attributes(heldout_contexts=0))
    with pytest.raises(WrongInput, match=r"`split` \(=heldout\) must have rows .* use --split train"):
        parts_of(empty, "heldout", 10, 10)
    bounded = write_store(tmp_path / "b", attributes(keep_units=2))
    with pytest.raises(WrongInput, match="must be heldout for a bounded store"):
        parts_of(bounded, "train", 10, 10)
    assert len(parts_of(bounded, "heldout", 100, 100)) == 1
