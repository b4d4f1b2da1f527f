"""Any mesh reads what any other mesh wrote, bit for bit, in real processes on gloo."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh

from distsae.checkpoint import CheckpointFailed, Shard, load, newest, save, verify
from distsae.errors import TornData, WrongInput
from tests.checkpoint.samples import FACTS, ROWS, World, blank, cut, run_worlds, same, whole

MESHES = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (1, 4))


def _feature_axis(mesh: DeviceMesh) -> tuple[int, int]:
    """Returns the size of the feature axis and this process's rank on it."""
    return mesh.size(1), mesh.get_local_rank("feature")


def _save_and_load_on_every_mesh(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    for seed, (data, feature) in enumerate(MESHES):
        with World(rank, folder, data, feature) as mesh:
            if mesh is not None:
                path = save(folder / f"{data}x{feature}", seed, cut(whole(seed), *_feature_axis(mesh)), FACTS, mesh)
                assert path == folder / f"{data}x{feature}" / f"step-{seed:08d}"
    for data, feature in MESHES:
        with World(rank, folder, data, feature) as mesh:
            if mesh is None:
                continue
            for seed, (saved_data, saved_feature) in enumerate(MESHES):
                state = blank(*_feature_axis(mesh))
                facts = load(folder / f"{saved_data}x{saved_feature}" / f"step-{seed:08d}", state, mesh)
                assert facts == FACTS
                expected = cut(whole(seed), *_feature_axis(mesh))
                assert same(state, expected), (data, feature, saved_data, saved_feature, rank)
    _save_divided_and_load(rank, folder)


def test_every_mesh_reads_what_every_mesh_wrote(tmp_path: Path) -> None:
    run_worlds(4, _save_and_load_on_every_mesh, tmp_path)
    assert sorted(path.name for path in (tmp_path / "1x3" / "step-00000004").iterdir()) == [
        "feature-00000-of-00003.safetensors",
        "feature-00001-of-00003.safetensors",
        "feature-00002-of-00003.safetensors",
        "manifest.json",
        "manifest.json.sha256",
        "replicated.safetensors",
    ]
    # Without torch.distributed at all.
    for seed, (data, feature) in enumerate(MESHES):
        state = blank()
        load(tmp_path / f"{data}x{feature}" / f"step-{seed:08d}", state)
        assert same(state, cut(whole(seed), 1, 0))
    divided = torch.zeros(13, 4)
    load(tmp_path / "divided" / "step-00000001", {"W": divided})
    assert divided[:, 0].tolist() == list(range(13))
    # Every rank writes rows of its own, and no row is written twice.
    files = {name: list((tmp_path / name).glob("step-*/feature-*.safetensors")) for name in ("1x2", "2x2", "2x1")}
    assert {name: len(paths) for name, paths in files.items()} == {"1x2": 2, "2x2": 4, "2x1": 2}
    sizes = {name: sum(path.stat().st_size for path in paths) for name, paths in files.items()}
    assert max(sizes.values()) - min(sizes.values()) < 2048  # headers


def _save_divided_and_load(rank: int, folder: Path) -> None:
    """Saves rows that data ranks divide, and reads other ranges of them."""
    rows = torch.arange(13.0).view(13, 1).expand(13, 4).contiguous()
    start, stop = [(0, 3), (5, 13), (3, 5), (13, 13)][rank]  # rank 3 has none
    with World(rank, folder, 2, 2) as mesh:
        divided = Shard(rows[start:stop].clone(), start, 13, divided=True)
        path = save(folder / "divided", 1, {"W": divided}, FACTS, mesh)
        for other in (Shard(torch.zeros(13, 4), 0, 13), Shard(torch.zeros(4, 4), 2 + rank, 13, divided=True)):
            load(path, {"W": other}, mesh)
            assert torch.equal(other.local, rows[other.offset : other.offset + len(other.local)])


def _save_and_load_with_failures(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    with World(rank, folder, 1, 2) as mesh:
        assert mesh is not None
        axis = _feature_axis(mesh)
        runs = folder / "checkpoints"
        save(runs, 1, cut(whole(1), *axis), FACTS, mesh)

        # The disk of rank 1 takes no file of more than 64 KiB.
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
        big = cut(whole(2), *axis) | {"big": Shard(torch.ones(10_000, 4), 10_000 * rank, 20_000)}
        with pytest.raises(CheckpointFailed, match=r"step 2 could not be completed \(rank 1: .*File too large"):
            save(runs, 2, big, FACTS, mesh)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert {path.name for path in runs.iterdir()} == {"step-00000001", "latest"}

        # A wrong tensor on one rank is an error on all of them, and so is a gap between shards.
        odd = cut(whole(2), *axis)
        if rank == 1:
            odd["b_dec"] = torch.zeros(9)
        with pytest.raises(WrongInput, match=r"`b_dec` must be the same tensor on every rank; got F32 \[6\]"):
            save(runs, 2, odd, FACTS, mesh)
        gap = cut(whole(2), *axis) | {"fired": Shard(torch.zeros(6, dtype=torch.int64), 7 * rank, ROWS)}
        with pytest.raises(WrongInput, match=r"`fired` must have each of its 13 rows on one feature rank"):
            save(runs, 2, gap, FACTS, mesh)
        wide = blank(*axis)
        if rank == 0:
            wide["b_dec"] = torch.zeros(9)
        with pytest.raises(WrongInput, match=r"`b_dec` must have the shape .* \[6\]; got \[9\]"):
            load(runs / "step-00000001", wide, mesh)

        # Both ranks refuse a file that only one of them reads, before anything is filled.
        damaged = runs / "step-00000001" / "feature-00001-of-00002.safetensors"
        if rank == 0:
            damaged.write_bytes(damaged.read_bytes()[:-1])
        state = blank(*axis)
        torch.distributed.barrier()
        with pytest.raises(TornData, match="feature-00001-of-00002"):
            load(runs / "step-00000001", state, mesh)
        assert same(state, blank(*axis))


def test_a_failure_of_one_rank_is_the_error_of_all(tmp_path: Path) -> None:
    """The ranks assert, and `run_worlds` raises what they raise."""
    run_worlds(2, _save_and_load_with_failures, tmp_path)


def _save_while_rank_1_is_killed(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    with World(rank, folder, 1, 2) as mesh:
        assert mesh is not None
        save(folder / "checkpoints", 1, cut(whole(1), *_feature_axis(mesh)), FACTS, mesh)
        if rank == 1:
            import sys

            def die(event: str, arguments: tuple[object, ...]) -> None:
                if event == "open" and "feature-00001" in str(arguments[0]):
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(die)
        with pytest.raises(RuntimeError):
            save(folder / "checkpoints", 2, cut(whole(2), *_feature_axis(mesh)), FACTS, mesh)
        (folder / "survived").touch()


def test_a_rank_killed_while_saving_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(torch.multiprocessing.ProcessExitedException, match="SIGKILL"):
        run_worlds(2, _save_while_rank_1_is_killed, tmp_path)
    runs = tmp_path / "checkpoints"
    path, refused = newest(runs)
    assert path == runs / "step-00000001"
    assert refused == []
    assert verify(path) == []
    assert (runs / "latest").read_text() == "step-00000001\n"
    assert [p.name for p in runs.iterdir() if p.name.startswith(".step-00000002-")], "killed too early to prove much"
    # The next save cleans up.
    save(runs, 2, cut(whole(2), 1, 0), FACTS)
    assert {p.name for p in runs.iterdir()} == {"step-00000001", "step-00000002", "latest"}
