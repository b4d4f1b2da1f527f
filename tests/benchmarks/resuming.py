"""Time and memory of a resume, beside torch's own ways and a raw read; and what each rank of a mesh saves and loads.

    python -m tests.benchmarks.resuming --d_sae 131072
    python -m tests.benchmarks.resuming --d_sae 131072 --only mesh

One process: every way fills the parameters and Adam's state of a run that has just been made, in a process of its
own, with the files in the page cache and without; medians of the rounds. Meshes: gloo processes on this machine save
and load the same state, with one thread each. Memory is the peak of resident memory (VmHWM) over what is resident when
all is done, so that it is what the way itself takes; pages of files that are mapped count. Linux only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from distsae.checkpoint import Ranks, Shard, State, load, newest, save
from distsae.parallel import Mesh, MeshConfig, build_mesh
from distsae.training import SizeConfig, TrainConfig
from distsae.training.initial_state import initial_shard, initial_state
from distsae.training.state import TrainingState
from tests.benchmarks.ways_to_save import dcp_save, plain_tensors, torch_save
from tests.distributed.processes import run_on_mesh

_D_IN = 768
_MESHES: dict[str, tuple[tuple[int, int], str]] = {
    "1x2": ((1, 2), "plain"),
    "2x1": ((2, 1), "plain"),
    "2x2": ((2, 2), "plain"),
    "2x1, DeepSpeed": ((2, 1), "deepspeed"),
}
_WAYS = ("raw", "distsae", "torch", "dcp")


def made(d_sae: int, mesh: Mesh, engine: str = "plain") -> TrainingState:
    """Returns the state of a run that has not stepped yet."""
    shape = MeshConfig(data=mesh.data.size, feature=mesh.feature.size)
    config = TrainConfig(store="", out="", steps=1, sae=SizeConfig(d_sae=d_sae), mesh=shape, engine=engine)
    mean = torch.zeros(_D_IN)
    return initial_state(config, initial_shard(config, mean, mesh, torch.device("cpu")), mesh, mean, 1.0)


def save_all(folder: str, d_sae: int) -> int:
    """Saves a state in every way there is to load one; returns its bytes."""
    state = made(d_sae, build_mesh(MeshConfig(), 1, "cpu")).tensors()
    tensors = plain_tensors(state)
    save(Path(folder) / "distsae", 1, state, {})
    torch_save(tensors, Path(folder) / "torch")
    dcp_save(tensors, Path(folder) / "dcp")
    return sum(tensor.nbytes for tensor in tensors.values())


def loaded(way: str, folder: str, d_sae: int, cold: bool) -> dict[str, float]:
    """Makes a state and fills it; returns seconds and MiB. To be called in a process of its own."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # DCP, of one process
    training = made(d_sae, build_mesh(MeshConfig(), 1, "cpu"))
    state, root = training.tensors(), Path(folder) / way
    if way == "raw":
        root = Path(folder) / "distsae"
    if cold:
        forget(root)
    ways: dict[str, Callable[[], dict[str, float]]] = {
        "raw": lambda: _raw(root, state),
        "distsae": lambda: _ours(root, state, Ranks(None)),
        "torch": lambda: _torch(root, state),
        "dcp": lambda: dcp.load(plain_tensors(state), checkpoint_id=root, no_dist=True) or {},
    }
    return measured(ways[way])


def measured(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Does some work; returns what it returns, the seconds it took, and the MiB it took beyond what it leaves."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    found |= {"all": time.perf_counter() - wall, "CPU": time.process_time() - processor}
    return found | {"MiB": _status("VmHWM") - _status("VmRSS"), "resident MiB": _status("VmRSS")}


def _ours(root: Path, state: State, ranks: Ranks, mesh: Mesh | None = None) -> dict[str, float]:
    begun = time.perf_counter()
    path, _ = newest(root, ranks)
    found = time.perf_counter()
    assert path is not None
    load(path, state, mesh.device_mesh if mesh is not None else None, checked=True)
    return {"find, verify": found - begun, "load": time.perf_counter() - found}


def _torch(path: Path, state: State) -> dict[str, float]:
    saved = torch.load(path, weights_only=True)
    for name, tensor in plain_tensors(state).items():
        tensor.copy_(saved[name])
    return {}


def _raw(root: Path, state: State) -> dict[str, float]:
    """Reads as many bytes into the state's memory, whatever they mean."""
    (file,) = root.glob("step-*/feature-*.safetensors")
    with file.open("rb", buffering=0) as raw:
        for tensor in plain_tensors(state).values():
            data = tensor.detach().reshape(-1).view(torch.uint8).numpy().data
            while len(data) and (count := raw.readinto(data)):
                data = data[count:]
    return {}


def forget(root: Path) -> None:
    """Takes the files under `root` out of the page cache."""
    for path in [root, *root.rglob("*")]:
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def _status(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def saved_and_loaded(mesh: Mesh, folder: str, d_sae: int, engine: str, rounds: int) -> dict[str, Any]:
    """What a rank takes to save and to load; a collective."""
    training, ranks = made(d_sae, mesh, engine), Ranks(mesh.device_mesh)
    found: dict[str, Any] = {"save": [], "load": []}
    for step in range(rounds):
        mesh.world.sum(torch.zeros(1))  # all begin together
        found["save"].append(measured(partial(_saved, Path(folder), step, training.tensors(), mesh)))
    for _ in range(rounds):
        mesh.world.sum(torch.zeros(1))
        found["load"].append(measured(partial(_ours, Path(folder), training.tensors(), ranks, mesh)))
    held = (value.local if isinstance(value, Shard) else value for value in training.tensors().values())
    found["held MiB"] = sum(torch.Size(one.shape).numel() * one.dtype.itemsize for one in held) / 2**20
    return found


def _saved(folder: Path, step: int, state: State, mesh: Mesh) -> dict[str, float]:
    save(folder, step, state, {}, mesh.device_mesh)
    return {}


def print_ways(folder: Path, d_sae: int, rounds: int) -> None:
    """Prints what each way takes in one process."""
    size = _in_a_process(save_all, str(folder), d_sae)
    found: dict[tuple[str, bool], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for cold in (False, True):
            for way in _WAYS:
                found.setdefault((way, cold), []).append(_in_a_process(loaded, way, str(folder), d_sae, cold))
    print(f"d_sae {d_sae}, d_in {_D_IN}: {size / 1e9:.3f} GB in one process, {rounds} rounds\n")
    print(
        "| files | way | find, verify: s | load: s | s | over raw | GB/s | CPU s | MiB beside the state |\n"
        + "|---" * 9
        + "|"
    )
    for (way, cold), every in found.items():
        raw, one = _medians(found["raw", cold]), _medians(every)
        parts = [f"{one[part]:.2f}" if part in one else "" for part in ("find, verify", "load")]
        cells = [f"{one['all']:.2f}", f"{one['all'] / raw['all']:.2f}", f"{size / 1e9 / one['all']:.2f}"]
        cells += [f"{one['CPU']:.2f}", f"{one['MiB']:.0f}"]
        print(f"| {'disk' if cold else 'page cache'} | {way} | " + " | ".join([*parts, *cells]) + " |")


def print_meshes(folder: Path, d_sae: int, rounds: int, names: list[str]) -> None:
    """Prints what ranks save and load."""
    print(
        f"\nd_sae {d_sae}, d_in {_D_IN}, {rounds} rounds; of the rank that takes most\n\n"
        "| mesh | state a rank, MiB | written by each rank, MB | save: s | CPU s of a rank | MiB beside the state "
        "| find, verify, load: s | CPU s of a rank | MiB beside the state |\n" + "|---" * 9 + "|"
    )
    for name in names:
        shape, engine = _MESHES[name]
        place = folder / name.replace(", ", "-")
        ranks = run_on_mesh(saved_and_loaded, shape, str(place), d_sae, engine, rounds, seconds=550)
        files = json.loads((sorted(place.glob("step-*"))[0] / "manifest.json").read_text())["files"]
        sizes = [record["bytes"] / 1e6 for file, record in sorted(files.items()) if file.startswith("feature")]
        cells = [f"{max(rank['held MiB'] for rank in ranks):.0f}", " ".join(f"{size:.0f}" for size in sizes)]
        for what in ("save", "load"):
            every = [_medians(rank[what]) for rank in ranks]
            cells += [f"{max(one['all'] for one in every):.2f}", f"{max(one['CPU'] for one in every):.2f}"]
            cells.append(f"{max(max(one['MiB'] for one in rank[what]) for rank in ranks):.0f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def _medians(every: list[dict[str, float]]) -> dict[str, float]:
    return {key: median(one[key] for one in every) for key in every[0]}


def _in_a_process(function: Callable[..., Any], *arguments: object) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d_sae", type=int, default=131072)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="on the disk to write to; by default a temporary one")
    parser.add_argument("--only", choices=["ways", "mesh"])
    parser.add_argument("--meshes", nargs="+", default=list(_MESHES), choices=list(_MESHES), metavar="MESH")
    given = parser.parse_args()
    # Otherwise the allocator keeps what was freed, and it would seem to be part of the state.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        if given.only != "mesh":
            print_ways(Path(name), given.d_sae, given.rounds)
        if given.only != "ways":
            print_meshes(Path(name), given.d_sae, given.rounds, given.meshes)


if __name__ == "__main__":
    main()
