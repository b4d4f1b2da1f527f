"""Checkpoints are recognised by their names, and the leftovers of a killed process are removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from distsae.checkpoint.names import checkpoints, clean_up, set_aside, step_name, step_of, temporary_name


def test_steps_and_names() -> None:
    assert step_name(1000) == "step-00001000"
    assert step_of(Path("x/step-00001000")) == 1000
    assert step_of(Path("step-1234567890")) == 1234567890
    for other in (
        "step-1000",
        "step-00001000.old",
        temporary_name(1000),
        ".removed-step-00001000-" + 32 * "a",
        "latest",
    ):
        assert step_of(Path(other)) is None
    assert temporary_name(5) != temporary_name(5)


def test_a_checkpoint_set_aside_gets_its_name_back(tmp_path: Path) -> None:
    (tmp_path / "step-00000002").mkdir()
    (tmp_path / "step-00000010").mkdir()
    aside = set_aside(tmp_path / "step-00000002", "replaced")
    assert [path.name for path in checkpoints(tmp_path)] == [aside.name, "step-00000010"]
    clean_up(tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002", "step-00000010"]


def test_cleaning_up_removes_leftovers_and_nothing_else(tmp_path: Path) -> None:
    for name in ("step-00000002", temporary_name(3), "notes", ".git", "0.pkl"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-00000001").mkdir()
    set_aside(tmp_path / "step-00000001", "removed")
    (tmp_path / "step-00000001").mkdir()
    set_aside(tmp_path / "step-00000001", "replaced")
    (tmp_path / "step-00000001").mkdir()
    (tmp_path / ".latest-0").touch()
    (tmp_path / "latest").touch()
    clean_up(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "step-00000001",
        "step-00000002",
        "notes",
        ".git",
        "0.pkl",
        "latest",
    }


def test_a_leftover_that_cannot_be_deleted_is_left_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NFS for example, while another machine reads it."""
    leftover = tmp_path / temporary_name(1)
    leftover.mkdir()
    with monkeypatch.context() as patch:

        def busy(*_: object, **__: object) -> None:
            raise OSError("busy")

        patch.setattr("os.rmdir", busy)
        clean_up(tmp_path)
    assert leftover.is_dir()
    clean_up(tmp_path)
    assert not leftover.exists()
