"""Units of a bounded store are released after checkpoints, and not before the run can do without them."""

import pytest

from distsae.batches import StreamOrder
from distsae.errors import WrongInput
from distsae.store import reading, windows
from distsae.training.folder.unit_release import UnitRelease
from tests.store.synthetic import attributes, write_store

ATTRS = attributes(contexts=200, keep_units=4)
BATCH = 64


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path, ATTRS)


def _release(store, steps=None, run="runs/a"):
    order = StreamOrder.of(store, BATCH, 0)
    return UnitRelease(store, order, steps or order.steps_per_epoch, run), order


def test_units_are_released_after_checkpoints(store):
    units, order = _release(store)
    units.start_reading(0)
    second = next(step for step in range(order.steps) if order.window(step) == 1)
    assert [done for done in range(1, order.steps + 1) if units.checkpoint_due(done)] == [
        step for step in range(1, order.steps) if order.window(step) > order.window(step - 1)
    ]
    units.checkpoint_saved(second - 1)
    assert reading(store.path).released == 0
    units.checkpoint_saved(second)
    assert reading(store.path).released == windows(ATTRS)[1].start
    units.checkpoint_saved(order.steps)  # making the SAE may read the last window again
    assert reading(store.path).released == windows(ATTRS)[-1].start
    units.run_finished()
    assert reading(store.path).released == windows(ATTRS)[-1].stop


def test_a_run_that_ends_early_can_be_resumed(store):
    units, order = _release(store, steps=2)
    assert order.window(2) == 0
    units.start_reading(0)
    units.checkpoint_saved(2)
    units.run_finished()
    assert reading(store.path).released == 0


def test_going_back(store, capsys):
    units, order = _release(store)
    units.start_reading(order.steps - 1)
    units.checkpoint_saved(order.steps - 1)
    units.start_reading(0)
    assert reading(store.path).released == 0
    assert "produces them again" in capsys.readouterr().err


def test_refused_before_anything_is_read(store):
    with pytest.raises(WrongInput, match=r"`steps` \(=1000\) must not exceed \d+, the steps that one reading"):
        _release(store, steps=1000)
    _release(store)[0].start_reading(0)
    with pytest.raises(WrongInput, match="must have one reader"):
        _release(store, run="runs/b")


def test_nothing_is_released_from_a_store_that_keeps_all_units(tmp_path):
    store = write_store(tmp_path, attributes(contexts=200))
    units, order = _release(store, steps=1000)
    units.start_reading(0)
    assert not any(units.checkpoint_due(done) for done in range(1, order.steps_per_epoch + 1))
    units.checkpoint_saved(1000)
    units.run_finished()
    assert not (tmp_path / "reading.json").exists()
