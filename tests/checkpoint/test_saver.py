"""A thread saves the state as it was, one checkpoint after the other, and reports how each save ended."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

import pytest
import torch

from distsae.checkpoint import CheckpointFailed, Ranks, Saver, Shard, load, verify
from distsae.checkpoint import saver as saver_module
from distsae.checkpoint.saving import save_snapshot
from distsae.errors import WrongInput
from tests.checkpoint.samples import FACTS, World, blank, cut, run_worlds, same, whole


class _Gate:
    """Keeps saves waiting until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.threads = []
        monkeypatch.setattr(saver_module, "save_snapshot", self._held)

    def _held(self, *arguments: object) -> Path:
        self.threads.append(threading.current_thread())
        self.reached.set()
        assert self.opened.wait(60)
        return save_snapshot(*arguments)


def test_the_state_may_change_while_it_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, ended = _Gate(monkeypatch), []
    saver = Saver(Ranks(None), asynchronous=True)
    state = cut(whole(1), 1, 0)
    saver.save(tmp_path, 1, state, FACTS, ended.append)
    for value in state.values():
        (value.local if isinstance(value, Shard) else value).fill_(1)
    assert ended == []
    assert list(tmp_path.iterdir()) == []
    gate.opened.set()
    saver.close()
    assert ended == [None]
    assert gate.threads[0] is not threading.main_thread()
    loaded = blank()
    assert load(tmp_path / "step-00000001", loaded) == FACTS
    assert same(loaded, cut(whole(1), 1, 0))


def test_the_next_save_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, order = _Gate(monkeypatch), list[object]()
    saver, weights = Saver(Ranks(None), asynchronous=True), torch.zeros(3)
    saver.save(tmp_path, 1, {"w": weights}, {}, lambda _: order.append(1))
    weights += 1

    def save_second() -> None:
        saver.save(tmp_path, 2, {"w": weights}, {}, lambda _: order.append(2))
        order.append("begun")

    assert gate.reached.wait(60)
    meanwhile = saver.busy
    assert meanwhile
    thread = threading.Thread(target=save_second)
    thread.start()
    thread.join(0.5)  # without the wait it would have begun by now
    assert order == []
    assert len(gate.threads) == 1
    gate.opened.set()
    thread.join()
    saver.wait()
    assert not saver.busy
    assert order[0] == 1
    assert sorted(map(str, order)) == ["1", "2", "begun"]
    for step, value in ((1, 0.0), (2, 1.0)):  # the second copy has not overwritten the first
        found = {"w": torch.full((3,), 9.0)}
        load(tmp_path / f"step-{step:08d}", found)
        assert torch.equal(found["w"], torch.full((3,), value))
    saver.close()


def test_a_synchronous_save_is_complete_when_it_returns(tmp_path: Path) -> None:
    ended: list[CheckpointFailed | None] = []
    saver = Saver(Ranks(None), asynchronous=False)
    begun: list[list[Path]] = []
    saver.save(tmp_path, 1, cut(whole(1), 1, 0), FACTS, ended.append, lambda: begun.append([*tmp_path.iterdir()]))
    assert begun == [[]]
    assert ended == [None]
    assert verify(tmp_path / "step-00000001") == []
    saver.close()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_full_disk_is_reported_and_the_next_save_tries_again(tmp_path: Path, asynchronous: bool) -> None:
    ended: list[CheckpointFailed | None] = []
    saver = Saver(Ranks(None), asynchronous=asynchronous)
    saver.save(tmp_path, 1, {"w": torch.zeros(3)}, {}, ended.append)
    saver.wait()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        saver.save(tmp_path, 2, {"big": torch.zeros(1 << 20)}, {}, ended.append)
        saver.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ended[0] is None
    assert "step 2 could not be completed" in str(ended[1])
    assert "it needs 4,194,304 bytes in" in str(ended[1])
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000001", "latest"}
    saver.save(tmp_path, 3, {"big": torch.zeros(1 << 20)}, {}, ended.append)
    saver.close()
    assert ended[2] is None
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000001", "step-00000003", "latest"}


def test_wrong_input_is_raised_by_the_next_wait(tmp_path: Path) -> None:
    ended: list[CheckpointFailed | None] = []
    saver = Saver(Ranks(None), asynchronous=True)
    saver.save(tmp_path, 1, {"w": torch.zeros(3, dtype=torch.complex64)}, {}, ended.append)
    with pytest.raises(WrongInput, match="`w` must have one of the dtypes"):
        saver.wait()
    saver.close()
    assert ended == []


def _save_beside_training(rank: int, folder: Path) -> None:
    """On a 2x1 mesh, two ranks save in threads while their main threads run other collectives."""
    torch.set_num_threads(1)
    with World(rank, folder, 2, 1) as mesh:
        assert mesh is not None
        group = torch.distributed.new_group(backend="gloo")
        saver, ended = Saver(Ranks(mesh, group), asynchronous=True), []
        for step in range(1, 6):
            state = cut(whole(step), 1, 0)
            saver.save(folder / "checkpoints", step, state, {**FACTS, "step": step}, ended.append)
            for number in range(20):
                total = torch.full((100,), float(rank + number))
                torch.distributed.all_reduce(total)
                assert float(total[0]) == 2 * number + 1
                if number == 10:
                    for value in state.values():
                        (value.local if isinstance(value, Shard) else value).zero_()
        saver.close()
        assert ended == [None] * 5
        for step in range(1, 6):
            loaded = blank()
            assert load(folder / "checkpoints" / f"step-{step:08d}", loaded, mesh) == {**FACTS, "step": step}
            assert same(loaded, cut(whole(step), 1, 0))


def test_ranks_save_in_threads_while_they_train(tmp_path: Path) -> None:
    run_worlds(2, _save_beside_training, tmp_path)  # the ranks assert, and `run_worlds` raises what they raise
    runs = tmp_path / "checkpoints"
    assert [verify(runs / f"step-{step:08d}") for step in range(1, 6)] == [[]] * 5
    assert (runs / "latest").read_text() == "step-00000005\n"
