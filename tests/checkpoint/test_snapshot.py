"""A snapshot is a rank's share of the state, and stays what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distsae.checkpoint import Ranks, Shard, Streamed, load, save
from distsae.checkpoint.snapshot import HostCopies, Snapshot
from distsae.checkpoint.write_plan import REPLICATED
from tests.checkpoint.samples import SHARDED, blank, cut, same, whole

SHARDS = "feature-00000-of-00001.safetensors"


def _streamed(tensor: torch.Tensor, calls: list[str]) -> Streamed:
    """A tensor that is kept with its rows reversed."""
    kept = tensor.flip(0).clone()

    def read() -> torch.Tensor:
        calls.append("read")
        return kept.flip(0)

    def write(value: torch.Tensor) -> None:
        calls.append("write")
        kept.copy_(value.flip(0))

    return Streamed(tuple(tensor.shape), tensor.dtype, read, write)


def test_it_holds_each_tensor_in_its_file() -> None:
    snapshot = Snapshot.take(cut(whole(1), 1, 0), Ranks(None), None)
    assert snapshot.files.keys() == {REPLICATED, SHARDS}
    assert sorted(snapshot.files[SHARDS]) == sorted(SHARDED)
    assert snapshot.holding.tensors["W_dec"].shape == (13, 6)


@pytest.mark.parametrize("copied", [False, True])
def test_only_copies_outlast_the_next_step(copied: bool) -> None:
    state = {"w": torch.zeros(3), "rows": Shard(torch.zeros(4, 2), 0, 4)}
    snapshot = Snapshot.take(state, Ranks(None), HostCopies() if copied else None)
    state["w"] += 1
    state["rows"].local.add_(1)
    for file, name in ((REPLICATED, "w"), (SHARDS, "rows")):
        assert bool((snapshot.files[file][name] == 0).all()) == copied
    if not copied:  # nothing is held twice
        assert snapshot.files[SHARDS]["rows"].data_ptr() == state["rows"].local.data_ptr()


def test_copies_use_their_memory_again_while_it_fits() -> None:
    copies, one = HostCopies(), torch.ones(5)
    first = copies.of("a", one)
    one += 1
    second = copies.of("a", one)
    assert second.data_ptr() == first.data_ptr()
    assert torch.equal(second, one)
    for other in (torch.ones(6), torch.ones(6, dtype=torch.float64), torch.tensor(3)):
        assert torch.equal(copies.of("a", other), other)
    copies.free()
    assert torch.equal(first, torch.full((5,), 2.0)), "a snapshot under way must keep its memory"


def test_streamed_tensors_are_read_and_written_one_by_one(tmp_path: Path) -> None:
    tensors, calls = whole(2), []
    state = cut(tensors, 1, 0)
    state["W_enc"] = Shard(_streamed(tensors["W_enc"], calls), 0, 13)
    state["b_dec"] = _streamed(tensors["b_dec"], calls)
    path = save(tmp_path, 1, state, {})
    assert calls == ["read", "read"]
    plain = blank()
    load(path, plain)
    assert same(plain, cut(tensors, 1, 0))

    calls.clear()
    state["W_enc"] = Shard(_streamed(torch.zeros(13, 6), calls), 0, 13)
    load(path, {"W_enc": state["W_enc"]})
    assert calls == ["write"]
    assert torch.equal(state["W_enc"].local.read(), tensors["W_enc"])
