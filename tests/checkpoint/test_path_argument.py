"""A path is resolved to checkpoints, or the error tells the user what to give instead."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from distsae.checkpoint import save
from distsae.checkpoint.path_argument import CheckpointPath, choose_step, choose_whole, resolve_path
from distsae.errors import TornData, WrongInput
from tests.checkpoint.samples import cut, whole


def _run(path: Path, *steps: int) -> Path:
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("seed: 0\n")
    for step in steps:
        save(path / "checkpoints", step, cut(whole(step), 1, 0), {})
    return path


def test_a_run_its_folder_and_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _run(tmp_path / "run", 1, 2) / "checkpoints"
    assert resolve_path(str(tmp_path / "run")) == resolve_path(str(folder)) == CheckpointPath(folder, None)
    checkpoint = folder / "step-00000001"
    assert resolve_path(str(checkpoint)) == CheckpointPath(folder, checkpoint)
    (checkpoint / "manifest.json").unlink()  # damaged, and still a checkpoint by its name
    assert resolve_path(str(checkpoint)) == CheckpointPath(folder, checkpoint)
    moved = shutil.copytree(folder / "step-00000002", tmp_path / "copied")
    assert resolve_path(str(moved)) == CheckpointPath(tmp_path, moved)
    monkeypatch.chdir(moved)
    assert resolve_path(".") == CheckpointPath(tmp_path, moved)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_path("~/run") == CheckpointPath(folder, None)


def test_a_folder_with_leftovers_only(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run") / "checkpoints"
    (folder / f".step-00000001-{'0' * 32}").mkdir(parents=True)
    assert resolve_path(str(tmp_path / "run")) == CheckpointPath(folder, None)
    with pytest.raises(WrongInput, match="must have checkpoints"):
        choose_whole(folder)
    (_run(tmp_path / "deleted") / "checkpoints").mkdir()
    (tmp_path / "deleted" / "checkpoints" / "latest").write_text("step-00000003\n")
    assert resolve_path(str(tmp_path / "deleted")) == CheckpointPath(tmp_path / "deleted" / "checkpoints", None)


def test_other_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"`run` \(=.*/nowhere\) must be the folder .*; got nothing there"):
        resolve_path(str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongInput, match="got a file"):
        resolve_path(str(tmp_path / "file"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(WrongInput, match="got a folder that is neither"):
        resolve_path(str(tmp_path / "empty"))
    run = _run(tmp_path / "run")
    with pytest.raises(WrongInput, match="must have checkpoints; got none yet"):
        resolve_path(str(run))
    (run / "checkpoints").mkdir()
    for path in (run, run / "checkpoints"):
        with pytest.raises(WrongInput, match="must have checkpoints; got none yet"):
            resolve_path(str(path))


def test_the_members_of_a_sweep_are_named(tmp_path: Path) -> None:
    for k in range(10, 22):
        _run(tmp_path / "sweep" / f"k-{k}")
        (tmp_path / "sweep" / f"k-{k}" / "checkpoints").mkdir()
    (tmp_path / "sweep" / "report").mkdir()
    with pytest.raises(WrongInput) as refused:
        resolve_path(str(tmp_path / "sweep"))
    assert "the folder of a sweep, with k-10, k-11, k-12, k-13, k-14, k-15, k-16, k-17 and 4 more" in str(refused.value)
    assert f"such as {tmp_path / 'sweep' / 'k-10'}" in str(refused.value)


def test_a_step_or_the_nearest_ones(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", 200, 400, 600) / "checkpoints"
    assert choose_step(folder, 400) == folder / "step-00000400"
    for step, near in ((450, "400 or 600"), (7, "200"), (6000, "600")):
        with pytest.raises(WrongInput, match=rf"`step` \(={step}\) must .* got 3 checkpoints of other .*: {near}$"):
            choose_step(folder, step)
    with pytest.raises(WrongInput, match="must have checkpoints"):
        choose_step(tmp_path / "none", 1)


def test_the_newest_that_looks_whole(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", 1, 2, 3) / "checkpoints"
    assert choose_whole(folder) == folder / "step-00000003"
    (folder / "step-00000003" / "replicated.safetensors").unlink()
    assert choose_whole(folder) == folder / "step-00000002"
    for step in (1, 2):
        (folder / f"step-0000000{step}" / "manifest.json").unlink()
    with pytest.raises(TornData, match=r"none of 3 checkpoints looks whole; .*step-00000003/replicated.* is missing"):
        choose_whole(folder)
