"""Real processes that were started differently: each of them reports the difference, and none continues."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from distsae.errors import WrongInput
from distsae.parallel import Mesh
from distsae.training import SizeConfig, SweepConfig, TrainConfig
from distsae.training.guards.agreement import SOURCES, require_agreement, require_same_kernels
from tests.distributed.processes import run_on_mesh

CONFIG = TrainConfig(store="store", out="run")


def _refusal(
    mesh: Mesh, changes: dict[int, dict[str, object]], fingerprints: dict[int, str], sources: Path = SOURCES
) -> str:
    """Returns the error of this rank, which has a config and a store of its own; empty if there is none."""
    rank = mesh.world.rank
    config = dataclasses.replace(CONFIG, **changes.get(rank, {}))
    try:
        require_agreement(config, fingerprints.get(rank, "abc"), sources)
    except WrongInput as error:
        return str(error)
    return ""


def _with_sources(mesh: Mesh, sources: str) -> str:
    """Returns the error of this rank if rank 1 runs another copy of the package."""
    return _refusal(mesh, {}, {}, Path(sources) if mesh.world.rank == 1 else SOURCES)


def test_equal_ranks_continue():
    moved = {1: {"store": "a copy on another machine"}}
    assert run_on_mesh(_refusal, (2, 2), moved, {}) == [""] * 4


@pytest.mark.parametrize(
    ("changes", "fingerprints", "parts"),
    [
        (
            {0: {"seed": 7}},
            {},
            ["`seed` must be the same on every process; got 7 on rank 0 (host", ", 0 on ranks 1 to"],
        ),
        (
            {1: {"sae": SizeConfig(k=64)}, 3: {"sae": SizeConfig(k=64)}},
            {},
            ["`sae.k` must be the same on every process; got 32 on ranks 0, 2 (host ", "), 64 on ranks 1, 3 (host "],
        ),
        ({2: {"sweep": SweepConfig(seed=(1, 2))}}, {}, ["`sweep.seed` must be", "got () on ranks 0, 1, 3 (host"]),
        ({}, {3: "xyz"}, ["`fingerprint` must be the same", "got abc on ranks 0 to 2 (host", "the same store"]),
    ],
)
def test_every_rank_names_the_difference(changes, fingerprints, parts):
    refusals = run_on_mesh(_refusal, (2, 2), changes, fingerprints)
    assert len(set(refusals)) == 1
    for part in parts:
        assert part in refusals[0]


def test_different_source_files_are_refused(tmp_path):
    copied = tmp_path / "distsae"
    shutil.copytree(SOURCES, copied, ignore=shutil.ignore_patterns("__pycache__"))
    assert run_on_mesh(_with_sources, (1, 2), str(copied)) == ["", ""]
    with (copied / "training" / "step.py").open("a") as file:
        file.write("\n")
    for refusal in run_on_mesh(_with_sources, (1, 2), str(copied)):
        assert refusal.startswith("`source files of distsae` must be the same on every process; got sha256 ")
        assert refusal.endswith("install the same versions on every machine")


def _kernels_refused(mesh: Mesh, of_rank_2: str) -> str:
    try:
        require_same_kernels(of_rank_2 if mesh.world.rank == 2 else "triton")
    except WrongInput as error:
        return str(error)
    return ""


def test_one_rank_that_got_other_kernels_ends_all():
    """They sum in another order, so data ranks would drift apart."""
    assert run_on_mesh(_kernels_refused, (2, 2), "triton") == [""] * 4
    for text in run_on_mesh(_kernels_refused, (2, 2), "reference"):
        assert text.startswith("`kernels` must be the same on every process; got triton on ranks 0, 1, 3 (host ")
        assert "reference on rank 2 (host " in text
        assert "start with `kernels` triton to see what is missing on those hosts" in text
