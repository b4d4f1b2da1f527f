"""A folder of checkpoints is described as it is, whatever lies in it, and nothing in it is executed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from distsae.checkpoint import abandon_after, load, newest, save, verify
from distsae.checkpoint.inspecting import contents, look, look_at
from distsae.checkpoint.names import set_aside
from distsae.errors import TornData, WrongInput
from tests.checkpoint.samples import FACTS, blank, cut, run_worlds, whole

from . import bomb

_REPLICATED, _ROWS = "replicated.safetensors", "feature-00000-of-00001.safetensors"
_UUID = "0123456789abcdef" * 2


def _save(folder: Path, *steps: int) -> None:
    for step in steps:
        save(folder, step, cut(whole(step), 1, 0), FACTS)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_a_folder_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    listing = look(tmp_path / "none")
    assert (listing.entries, listing.leftovers, listing.latest, listing.newest, listing.bytes) == (
        (),
        (),
        None,
        None,
        0,
    )


def test_checkpoints_are_listed_with_their_sizes(tmp_path: Path) -> None:
    _save(tmp_path, 5, 100_000_000, 30)
    os.utime(tmp_path / "step-00000005" / "manifest.json", (1000, 1000))
    listing = look(tmp_path)
    assert [entry.step for entry in listing.entries] == [5, 30, 100_000_000]
    assert [entry.files for entry in listing.entries] == [4, 4, 4]
    assert [entry.bytes for entry in listing.entries] == [_size(entry.path) for entry in listing.entries]
    assert listing.entries[0].written == 1000
    assert all(entry.looks_whole and entry.unlisted == () for entry in listing.entries)
    assert listing.latest == "step-00000030"
    assert listing.newest == listing.entries[-1]
    assert listing.newest.path == newest(tmp_path)[0]
    assert listing.bytes == _size(tmp_path) - (tmp_path / "latest").stat().st_size


@pytest.mark.parametrize(
    ("name", "damage", "fault"),
    [
        (_ROWS, "deleted", f"/step-00000003/{_ROWS} is missing"),
        (_ROWS, "truncated", f"/step-00000003/{_ROWS} has "),
        (_REPLICATED, "truncated", f"/step-00000003/{_REPLICATED} has "),
        ("manifest.json", "flipped", "/step-00000003/manifest.json is damaged"),
        ("manifest.json", "deleted", "/step-00000003/manifest.json is missing"),
        ("manifest.json.sha256", "truncated", "/step-00000003/manifest.json is damaged"),
    ],
)
def test_a_damaged_one_is_listed_and_passed_over(tmp_path: Path, name: str, damage: str, fault: str) -> None:
    _save(tmp_path, 2, 3)
    file = tmp_path / "step-00000003" / name
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    if damage == "deleted":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flipped" else content[:-1])
    two, three = look(tmp_path).entries
    assert look(tmp_path).newest == two
    assert len(three.faults) == 1
    assert fault in three.faults[0]
    assert three.unlisted == ()
    assert three.step == 3


def test_a_flipped_byte_of_a_tensor_goes_unnoticed(tmp_path: Path) -> None:
    _save(tmp_path, 3)
    file = tmp_path / "step-00000003" / _ROWS
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert look(tmp_path).entries[0].looks_whole
    assert verify(tmp_path / "step-00000003") != []


def test_leftovers_are_told_apart(tmp_path: Path) -> None:
    _save(tmp_path, 2, 3, 4, 5)
    set_aside(tmp_path / "step-00000002", "removed")
    abandoned = abandon_after(tmp_path, 4)
    (tmp_path / f".step-00000009-{_UUID}").mkdir()
    (tmp_path / f".step-00000009-{_UUID}" / _REPLICATED).write_bytes(b"half")
    (tmp_path / f".replaced-step-00000004-{_UUID}").mkdir()
    (tmp_path / f".latest-{_UUID}").write_text("step")
    (tmp_path / "notes.txt").write_text("a note")
    listing = look(tmp_path)
    assert [entry.step for entry in listing.entries] == [3, 4]
    found = {leftover.word: leftover for leftover in listing.leftovers}
    assert len(listing.leftovers) == len(found)
    assert {word: leftover.bytes for word, leftover in found.items()} == {
        "removed": _size(found["removed"].path),
        "abandoned": _size(abandoned[0]),
        "saving": 4,
        "replaced": 0,
        "latest": 4,
    }
    assert [found["abandoned"].path] == abandoned
    assert found["saving"].changed == (found["saving"].path / _REPLICATED).stat().st_mtime
    assert listing.latest == "step-00000004"
    assert listing.bytes == sum(map(_size, tmp_path.glob("*step-*"))) + 4


def test_one_that_was_being_replaced_counts_as_a_checkpoint(tmp_path: Path) -> None:
    _save(tmp_path, 3)
    old = set_aside(tmp_path / "step-00000003", "replaced")
    listing = look(tmp_path)
    assert [(entry.step, entry.path) for entry in listing.entries] == [(3, old)]
    assert listing.leftovers == ()
    _save(tmp_path / "other", 3)
    (tmp_path / "other" / "step-00000003").rename(tmp_path / "step-00000003")
    listing = look(tmp_path)
    assert [entry.path.name for entry in listing.entries] == ["step-00000003"]
    assert [leftover.word for leftover in listing.leftovers] == ["replaced"]


def test_a_latest_that_is_not_text(tmp_path: Path) -> None:
    _save(tmp_path, 3)
    (tmp_path / "latest").write_bytes(b"\xff\x80step")
    assert (look(tmp_path).latest, look(tmp_path).disappeared) == ("\ufffd\ufffdstep", None)


@pytest.mark.parametrize(("latest", "disappeared"), [(2, None), (3, None), (4, "step-00000004")])
def test_the_one_published_last_has_disappeared_if_all_later_ones_have(tmp_path, latest, disappeared) -> None:
    _save(tmp_path, 1, 3)
    (tmp_path / "latest").write_text(f"step-0000000{latest}\n")
    assert look(tmp_path).disappeared == disappeared
    (tmp_path / "latest").unlink()
    assert look(tmp_path).disappeared is None


def _save_on_two(rank: int, folder: Path) -> None:
    from tests.checkpoint.samples import World

    with World(rank, folder, 1, 2) as mesh:
        save(folder / "checkpoints", 7, cut(whole(7), 2, rank), FACTS, mesh)


def test_contents_of_one_and_of_two_ranks(tmp_path: Path) -> None:
    _save(tmp_path, 7)
    found = contents(tmp_path / "step-00000007")
    assert (found.step, found.facts, found.entry) == (7, FACTS, look_at(tmp_path / "step-00000007"))
    tensors = {tensor.name: tensor for tensor in found.tensors}
    assert tensors.keys() == whole().keys()
    for name, tensor in whole().items():
        assert tensors[name].shape == tuple(tensor.shape)
        assert tensors[name].bytes == tensor.nbytes
    assert (tensors["W_dec"].dtype, tensors["fired"].dtype) == ("BF16", "I64")
    assert (tensors["W_enc"].files, tensors["b_dec"].files) == ((_ROWS,), (_REPLICATED,))
    run_worlds(2, _save_on_two, tmp_path)
    divided = {tensor.name: tensor for tensor in contents(tmp_path / "checkpoints" / "step-00000007").tensors}
    assert divided["W_enc"].files == ("feature-00000-of-00002.safetensors", "feature-00001-of-00002.safetensors")
    assert (divided["W_enc"].shape, divided["W_enc"].bytes) == (tensors["W_enc"].shape, tensors["W_enc"].bytes)


def test_contents_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="must be a checkpoint's folder"):
        contents(tmp_path / "nowhere")
    with pytest.raises(TornData, match=r"manifest\.json is missing"):
        contents(tmp_path)
    _save(tmp_path, 3)
    manifest = tmp_path / "step-00000003" / "manifest.json"
    bomb.plant_with_digests(manifest.parent, manifest.name, manifest.read_bytes().replace(b'"F32"', b'"C64"'))
    with pytest.raises(TornData, match=r"no checkpoint can hold: \['C64'\]"):
        contents(manifest.parent)


def test_files_that_are_not_part_of_it_are_named(tmp_path: Path) -> None:
    _save(tmp_path, 3)
    path = tmp_path / "step-00000003"
    (path / "sub").mkdir()
    (path / "sub" / "notes.txt").write_text("a note")
    entry = look_at(path)
    assert entry.looks_whole
    assert entry.unlisted == ("sub/notes.txt",)
    assert (entry.files, entry.bytes) == (5, _size(path))


@pytest.mark.parametrize("form", [bomb.raw, bomb.torch_archive])
def test_a_bomb_instead_of_tensors_is_refused(tmp_path: Path, form) -> None:
    _save(tmp_path, 2, 3)
    path, marker = tmp_path / "step-00000003", tmp_path / "exploded"
    bomb.plant_as_own_file(path, _REPLICATED, form(marker))
    look(tmp_path)
    contents(path)
    chosen, refused = newest(tmp_path)
    assert chosen == tmp_path / "step-00000002"
    assert _REPLICATED in refused[0]
    with pytest.raises(TornData, match=_REPLICATED):
        load(path, blank())
    bomb.plant_with_digests(path, _REPLICATED, form(marker))  # by an attacker who knows the format
    assert look_at(path).looks_whole
    contents(path)
    assert verify(path) == []
    with pytest.raises(TornData, match=f"{_REPLICATED} is damaged: its header"):
        load(path, blank())
    assert not marker.exists()


@pytest.mark.parametrize("form", [bomb.raw, bomb.torch_archive])
@pytest.mark.parametrize("name", ["data.pkl", "optimizer.pt", ".metadata", "__init__.py"])
def test_a_bomb_beside_the_tensors_is_ignored(tmp_path: Path, name: str, form) -> None:
    _save(tmp_path, 3)
    path, marker = tmp_path / "step-00000003", tmp_path / "exploded"
    (path / name).write_bytes(form(marker))
    assert look_at(path).unlisted == (name,)
    assert look(tmp_path).newest is not None
    assert contents(path).facts == FACTS
    assert newest(tmp_path)[0] == path
    filled = blank()
    load(path, filled)
    assert torch.equal(filled["b_dec"], whole(3)["b_dec"])
    assert not marker.exists()


@pytest.mark.parametrize("form", [bomb.raw, bomb.torch_archive])
def test_a_bomb_instead_of_a_manifest_is_refused(tmp_path: Path, form) -> None:
    _save(tmp_path, 2, 3)
    path, marker = tmp_path / "step-00000003", tmp_path / "exploded"
    bomb.plant_with_digests(path, "manifest.json", form(marker))
    assert look(tmp_path).newest == look_at(tmp_path / "step-00000002")
    assert "manifest.json is not the manifest of a checkpoint" in look_at(path).faults[0]
    assert newest(tmp_path)[0] == tmp_path / "step-00000002"
    with pytest.raises(TornData, match="not the manifest"):
        contents(path)
    assert not marker.exists()
