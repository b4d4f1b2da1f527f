"""The newest sound checkpoint is found past damaged ones, and pruning always leaves one to resume from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from distsae.checkpoint import abandon_after, newest, prune, save, verify


def _save(folder: Path, *steps: int) -> None:
    for step in steps:
        save(folder, step, {"w": torch.full((100,), float(step))}, {"step": step})


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in folder.glob("step-*"))


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    assert newest(tmp_path / "none") == (None, [])
    (tmp_path / "step-00000001").mkdir()
    path, refused = newest(tmp_path)
    assert path is None
    assert len(refused) == 1
    assert "step-00000001" in refused[0]
    assert "manifest.json is missing" in refused[0]


def test_the_highest_step_whatever_its_number_of_digits(tmp_path: Path) -> None:
    _save(tmp_path, 999_999_999, 99_999_999, 2)
    assert newest(tmp_path)[0] == tmp_path / "step-999999999"


@pytest.mark.parametrize("name", ["replicated.safetensors", "manifest.json", "manifest.json.sha256"])
@pytest.mark.parametrize("damage", ["truncated", "deleted", "flipped"])
def test_a_damaged_one_is_named_and_the_one_before_is_used(tmp_path: Path, name: str, damage: str) -> None:
    _save(tmp_path, 1, 2, 3)
    file = tmp_path / "step-00000003" / name
    content = bytearray(file.read_bytes())
    if damage == "deleted":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[:-1])
    else:
        content[-5] ^= 0x10
        file.write_bytes(content)
    path, refused = newest(tmp_path)
    assert path == tmp_path / "step-00000002"
    assert len(refused) == 1
    assert refused[0].startswith("step-00000003 is refused")
    assert name in refused[0]
    assert verify(tmp_path / "step-00000002") == []
    assert len(verify(tmp_path / "step-00000003")) == 1


def test_one_that_has_disappeared_is_named(tmp_path: Path) -> None:
    _save(tmp_path, 1, 2)
    shutil.rmtree(tmp_path / "step-00000002")
    line = "step-00000002 is refused: it is not there, though `latest` names it"
    assert newest(tmp_path) == (tmp_path / "step-00000001", [line])
    shutil.rmtree(tmp_path / "step-00000001")
    assert newest(tmp_path) == (None, [line])
    for nonsense in (b"", b"\xff\x00", b"elsewhere", b"/", b"step-1"):
        (tmp_path / "latest").write_bytes(nonsense)
        assert newest(tmp_path) == (None, [])


def test_abandoned_ones_are_set_aside_and_do_not_count_as_disappeared(tmp_path: Path) -> None:
    _save(tmp_path, 1, 2, 3)
    aside = abandon_after(tmp_path, 1)
    assert [path.name[:25] for path in aside] == [".abandoned-step-00000002-", ".abandoned-step-00000003-"]
    assert all(verify(path) == [] for path in aside)
    assert (tmp_path / "latest").read_text() == "step-00000001\n"
    assert newest(tmp_path) == (tmp_path / "step-00000001", [])
    assert abandon_after(tmp_path, 1) == []
    abandon_after(tmp_path, 0)
    assert newest(tmp_path) == (None, [])


def test_pruning_keeps_the_last_and_every_nth(tmp_path: Path) -> None:
    _save(tmp_path, *range(100, 1100, 100))
    prune(tmp_path, 2, 400)
    assert _steps(tmp_path) == [400, 800, 900, 1000]
    prune(tmp_path, 1, None)
    assert _steps(tmp_path) == [1000]
    assert {path.name for path in tmp_path.iterdir()} == {"step-00001000", "latest"}


def test_damaged_checkpoints_do_not_count_as_kept(tmp_path: Path) -> None:
    _save(tmp_path, 1, 2, 3)
    (tmp_path / "step-00000003" / "replicated.safetensors").write_bytes(b"")
    prune(tmp_path, 1, None)
    assert _steps(tmp_path) == [2, 3]
    assert newest(tmp_path)[0] == tmp_path / "step-00000002"


def test_what_latest_names_is_kept(tmp_path: Path) -> None:
    _save(tmp_path, 5, 6, 1)
    prune(tmp_path, 1, None)
    assert _steps(tmp_path) == [1, 6]


def test_pruning_an_empty_folder(tmp_path: Path) -> None:
    prune(tmp_path / "none", 3, None)
    assert not (tmp_path / "none").exists()
