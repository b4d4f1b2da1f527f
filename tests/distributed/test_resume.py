"""Runs resume between meshes with even and uneven shards, and end as a run on one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distsae.batches import Batch
from distsae.checkpoint import Shard, facts_of, load, save
from distsae.parallel import Mesh
from distsae.training import (
    AuxiliaryConfig,
    OptimizerConfig,
    SizeConfig,
    TrainConfig,
    TrainingState,
    initial_state,
    training_step,
)
from tests.distributed.processes import run_on_mesh
from tests.training.samples import BATCH, D_SAE, K, activations, mean_and_variance, shard_on

assert D_SAE % 3, "three ranks hold shards of unequal size"
STOP, STEPS = 6, 12


def _fresh(mesh: Mesh, allocation: str) -> TrainingState:
    config = TrainConfig(
        store="s",
        out="o",
        sae=SizeConfig(d_sae=D_SAE, k=K),
        steps=STEPS,
        batch_tokens=BATCH,
        allocation="mutual_choice" if allocation == "mutual_choice" else "feature_choice",
        quotas_hold="on_average" if allocation == "by prices" else "every_batch",
        optimizer=OptimizerConfig(lr=3e-3, warmup_share=0.0, decay_share=0.0),
        auxiliary=AuxiliaryConfig(rho=0.9, window_tokens=8 * BATCH, dead_after_tokens=2 * BATCH, refresh_steps=3),
    )
    return initial_state(config, shard_on(mesh), mesh, *mean_and_variance())


def _train(mesh: Mesh, allocation: str, folder: Path, first: int, last: int) -> dict[str, torch.Tensor]:
    """Trains from step `first`, of which `folder` has a checkpoint unless it is 0, to `last`; returns all tensors."""
    state, share = _fresh(mesh, allocation), BATCH // mesh.data.size
    if first:
        path = folder / f"step-{first:08d}"
        state.restore(first, facts_of(path)[1], lambda tensors: load(path, tensors, mesh.device_mesh))
    for step in range(first, last):
        x = activations(step, tokens=BATCH)[mesh.data.rank * share : (mesh.data.rank + 1) * share]
        training_step(state, Batch(x))
    if last < STEPS:
        save(folder, last, state.tensors(), state.facts(), mesh.device_mesh)
    return {
        name: torch.cat(mesh.feature.gather(value.local)) if isinstance(value, Shard) else value.clone()
        for name, value in state.tensors().items()
    }


@pytest.mark.parametrize("allocation", ["mutual_choice", "feature_choice", "by prices"])
@pytest.mark.parametrize("before", [(1, 3), (1, 2)], ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_a_run_resumes_between_even_and_uneven_shards(before, allocation, tmp_path):
    (expected,) = run_on_mesh(_train, (1, 1), allocation, tmp_path / "straight", 0, STEPS)
    # With quotas in every batch densities follow the curve at once, with prices after some batches.
    assert expected["underused.members"].any() == (allocation != "feature_choice")
    run_on_mesh(_train, before, allocation, tmp_path, 0, STOP)
    for after in ((1, 1), (1, 2), (1, 3), (2, 2)):
        for found in run_on_mesh(_train, after, allocation, tmp_path, STOP, STEPS):
            assert found.keys() == expected.keys()
            for name, tensor in expected.items():
                torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-12, msg=f"{name} on {after}")
