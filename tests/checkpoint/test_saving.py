"""All or nothing: wherever a save is killed, the newest sound checkpoint is a whole one."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distsae.checkpoint import CheckpointFailed, Shard, load, newest, save, verify
from distsae.errors import WrongInput
from tests.checkpoint.samples import FACTS, blank, cut, same, whole


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = save(tmp_path / "RUN" / "checkpoints", 1000, cut(whole(3), 1, 0), FACTS)
    assert path == tmp_path / "RUN" / "checkpoints" / "step-00001000"
    assert (path.parent / "latest").read_text() == "step-00001000\n"
    assert verify(path) == []
    state = blank()
    assert load(path, state) == FACTS
    assert same(state, cut(whole(3), 1, 0))


def test_parameters_and_strided_tensors_are_saved_and_loaded(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(4, 3))
    transposed = weight.t()
    path = save(tmp_path, 1, {"weight": Shard(weight, 0, 4), "transposed": transposed}, {})
    loaded = torch.nn.Parameter(torch.zeros(4, 3))
    strided = torch.zeros(4, 3).t()
    load(path, {"weight": Shard(loaded, 0, 4), "transposed": strided})
    assert torch.equal(loaded, weight)
    assert torch.equal(strided, transposed)
    assert loaded.requires_grad


def test_equal_states_give_equal_bytes(tmp_path: Path) -> None:
    first, second = (save(tmp_path / name, 5, cut(whole(1), 1, 0), FACTS) for name in ("first", "second"))
    assert [p.read_bytes() for p in sorted(first.iterdir())] == [p.read_bytes() for p in sorted(second.iterdir())]


@pytest.mark.parametrize("damage", [None, "feature-00000-of-00001.safetensors", "manifest.json"])
def test_a_step_saved_again_is_replaced(tmp_path: Path, damage: str | None) -> None:
    path = save(tmp_path, 1, cut(whole(1), 1, 0), FACTS)
    if damage:
        (path / damage).write_bytes(b"damaged")
    assert save(tmp_path, 1, cut(whole(2), 1, 0), {"again": True}) == path
    state = blank()
    assert load(path, state) == {"again": True}
    assert same(state, cut(whole(2), 1, 0))
    assert {p.name for p in tmp_path.iterdir()} == {"step-00000001", "latest"}


@pytest.mark.parametrize("facts", [{"loss": float("nan")}, {"path": Path("x")}])
def test_facts_that_are_not_json_are_refused(tmp_path: Path, facts: dict) -> None:
    with pytest.raises(WrongInput, match="`facts` must be plain JSON"):
        save(tmp_path / "checkpoints", 1, {}, facts)
    assert not (tmp_path / "checkpoints").exists()


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    save(tmp_path, 1, cut(whole(1), 1, 0), FACTS)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(
            CheckpointFailed, match=r"step 2 could not .*File too large.*; check the disk, and your quota on it"
        ):
            save(tmp_path, 2, {"big": torch.zeros(1 << 20)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {p.name for p in tmp_path.iterdir()} == {"step-00000001", "latest"}
    assert newest(tmp_path) == (tmp_path / "step-00000001", [])


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(CheckpointFailed, match="step 1 could not be completed"):
        save(tmp_path / "checkpoints", 1, {}, {})


def _killed_at(event_number: int, work: Callable[[], object]) -> bool:
    """Runs `work` in a child that is killed at its n-th file operation; returns whether it had that many."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
                seen += 1
                if seen == event_number:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            sys.addaudithook(count)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the save itself failed"
    return False


@pytest.mark.parametrize("step", [1, 2], ids=["the same step again", "the next step"])
def test_killed_at_every_file_operation(tmp_path: Path, step: int) -> None:
    old, new = {"w": torch.zeros(5)}, {"w": torch.ones(5)}
    outcomes, number = [], 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        save(folder, 1, old, {})
        killed = _killed_at(number, lambda folder=folder: save(folder, step, new, {}))

        path, refused = newest(folder)
        assert path is not None, f"nothing to resume from after a kill at operation {number}"
        assert refused == []
        found = {"w": torch.full((5,), 9.0)}
        load(path, found)
        outcomes.append(float(found["w"][0]))
        assert torch.equal(found["w"], old["w"]) or torch.equal(found["w"], new["w"])

        # The next process cleans up and goes on.
        save(folder, 3, new, {})
        left = {p.name for p in folder.iterdir()}
        assert left == {"step-00000001", f"step-{step:08d}", "step-00000003", "latest"} or (
            step == 2 and left == {"step-00000001", "step-00000003", "latest"}
        )
        assert all(verify(folder / name) == [] for name in left - {"latest"})
        if not killed:
            break
    assert outcomes == sorted(outcomes), "an earlier kill must not show the newer checkpoint"
    assert outcomes[0] == 0.0
    assert outcomes[-1] == 1.0
    assert number > 10, "the sweep must pass through the whole save"
