"""A snapshot is the share of the state that a rank writes; copies in it do not change with the state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distsae.checkpoint import Ranks, Shard, State, Streamed, load, save
from distsae.checkpoint.snapshot import HostCopies, Snapshot
from distsae.checkpoint.write_plan import REPLICATED
from tests.checkpoint.samples import SHARDED, blank, cut, same, whole

SHARDS = "feature-00000-of-00001.safetensors"


def _streamed(tensor: torch.Tensor, calls: list[str]) -> Streamed:
    """Returns a tensor that is stored with its rows reversed; `calls` lists the calls of its functions."""
    stored = tensor.flip(0).clone()

    def read() -> torch.Tensor:
        calls.append("read")
        return stored.flip(0)

    def write(value: torch.Tensor) -> None:
        calls.append("write")
        stored.copy_(value.flip(0))

    return Streamed(tuple(tensor.shape), tensor.dtype, read, write)


def test_each_tensor_is_in_its_file() -> None:
    snapshot = Snapshot.take(cut(whole(1), 1, 0), Ranks(None), None)
    assert snapshot.files.keys() == {REPLICATED, SHARDS}
    assert sorted(snapshot.files[SHARDS]) == sorted(SHARDED)
    assert snapshot.rank_tensors.tensors["W_dec"].shape == (13, 6)


@pytest.mark.parametrize("copied", [False, True])
def test_only_copies_stay_when_the_state_changes(copied: bool) -> None:
    rows = Shard(torch.zeros(4, 2), 0, 4)
    state: State = {"w": torch.zeros(3), "rows": rows}
    snapshot = Snapshot.take(state, Ranks(None), HostCopies() if copied else None)
    state["w"].add_(1)
    rows.local.add_(1)
    for file, name in ((REPLICATED, "w"), (SHARDS, "rows")):
        assert bool((snapshot.files[file][name] == 0).all()) == copied
    if not copied:  # nothing is in memory twice
        assert snapshot.files[SHARDS]["rows"].data_ptr() == rows.local.data_ptr()


@pytest.mark.parametrize("data", [0, 1])
def test_of_divided_rows_each_data_rank_writes_all_it_holds(data: int) -> None:
    ranks = Ranks(None)
    ranks.data, ranks.data_size = data, 2
    state: State = {
        "shared": Shard(torch.arange(4.0), 0, 4),
        "divided": Shard(torch.tensor([[3.0], [0.0]][data]), [0, 3][data], 4, divided=True),
    }
    (files,) = Snapshot.take(state, ranks, None).files.values()
    assert files["shared"].tolist() == [[0.0, 1.0], [2.0, 3.0]][data]
    assert files["divided"].tolist() == [[3.0], [0.0]][data]


def test_memory_for_copies_is_reused_while_it_fits() -> None:
    copies, tensor = HostCopies(), torch.ones(5)
    first = copies.copy("a", tensor)
    tensor += 1
    second = copies.copy("a", tensor)
    assert second.data_ptr() == first.data_ptr()
    assert torch.equal(second, tensor)
    assert copies.bytes == 20
    for other in (torch.ones(6), torch.ones(6, dtype=torch.float64), torch.tensor(3)):
        assert torch.equal(copies.copy("a", other), other)
        assert copies.bytes == other.nbytes
    copies.free()
    assert copies.bytes == 0
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
