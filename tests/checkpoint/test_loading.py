"""Loading refuses what does not fit or is damaged, and reads no more than is asked for."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from distsae.checkpoint import Shard, load, save
from distsae.errors import TornData, WrongInput
from tests.checkpoint.samples import FACTS, SHARDED, blank, cut, same, whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path / "checkpoints", 1, cut(whole(1), 1, 0), FACTS)


def test_any_rows_of_any_tensor(path: Path) -> None:
    tensors = whole(1)
    for name in SHARDED:
        for start, stop in ((0, 13), (4, 9), (12, 13), (5, 5)):
            part = Shard(torch.zeros_like(tensors[name][start:stop]), start, 13)
            load(path, {name: part})
            assert torch.equal(part.local, tensors[name][start:stop])
    # What was saved in shards may be asked for whole, and the other way round.
    entire = torch.zeros_like(tensors["W_enc"])
    load(path, {"W_enc": entire})
    assert torch.equal(entire, tensors["W_enc"])
    rows = Shard(torch.zeros(2), 3, 6)
    load(path, {"b_dec": rows})
    assert torch.equal(rows.local, tensors["b_dec"][3:5])


def test_only_the_files_that_are_needed_are_read(path: Path) -> None:
    (path / "feature-00000-of-00001.safetensors").unlink()
    b_dec = torch.zeros(6)
    load(path, {"b_dec": b_dec})
    assert torch.equal(b_dec, whole(1)["b_dec"])
    with pytest.raises(TornData, match=r"feature-00000-of-00001\.safetensors is missing"):
        load(path, {"W_enc": torch.zeros(13, 6)})


def test_what_does_not_fit_is_refused_with_both_values(path: Path) -> None:
    with pytest.raises(WrongInput, match=r"tensor `W_encoder` must be in the checkpoint .* did you mean 'W_enc'\?"):
        load(path, {"W_encoder": torch.zeros(13, 6)})
    with pytest.raises(WrongInput, match=r"`W_enc` must have the shape .* \[13, 6\]; got \[26, 6\]"):
        load(path, {"W_enc": Shard(torch.zeros(13, 6), 0, 26)})
    with pytest.raises(WrongInput, match=r"`W_enc` must have the dtype .* F32; got BF16"):
        load(path, {"W_enc": torch.zeros(13, 6, dtype=torch.bfloat16)})
    with pytest.raises(WrongInput, match=r"step-00000002\) must be a checkpoint's folder"):
        load(path.with_name("step-00000002"), {})


@pytest.mark.parametrize("damage", ["truncated", "deleted", "flipped"])
def test_damage_in_any_file_is_refused_and_changes_nothing(path: Path, damage: str) -> None:
    names = sorted(p.name for p in path.iterdir())
    assert len(names) == 4
    for name in names:
        content = (path / name).read_bytes()
        if damage == "truncated":
            (path / name).write_bytes(content[:-1])
        elif damage == "deleted":
            (path / name).unlink()
        else:
            middle = len(content) // 2
            (path / name).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        state = blank()
        with pytest.raises(TornData, match=name):
            load(path, state)
        assert same(state, blank())
        (path / name).write_bytes(content)
    load(path, blank())


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise AssertionError('a pickle was opened')",)


def test_pickles_are_never_opened(path: Path) -> None:
    for name in ("0.pkl", ".metadata", "pytorch_model.bin", "feature-00001-of-00002.safetensors"):
        (path / name).write_bytes(pickle.dumps(_Trap()))
    state = blank()
    assert load(path, state) == FACTS
    assert same(state, cut(whole(1), 1, 0))
    # Nor is a pickle that stands for a data file.
    (path / "replicated.safetensors").write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(TornData, match=r"replicated\.safetensors"):
        load(path, blank())
