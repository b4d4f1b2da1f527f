"""A checkpoint of uneven shards goes on where it stopped, on any mesh, and so does one that uneven shards take up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distsae.allocation import MutualSelector
from distsae.checkpoint import Shard, load, save
from distsae.losses import FiringStatistics, Underused
from distsae.parallel import Mesh
from distsae.training import OptimizerConfig, PlainEngine, SizeConfig, TrainConfig, training_step
from distsae.training.phases import Phases
from distsae.training.state import TrainingState
from distsae.training.thresholds import ThresholdTracker
from tests.distributed.processes import run_on_mesh
from tests.training.samples import D_SAE, TOKENS, K, activations, mean_and_variance, shard_on

assert D_SAE % 3, "three ranks hold shards of unequal size"
STOP, STEPS = 6, 12


def _fresh(mesh: Mesh, allocation: str) -> TrainingState:
    config = TrainConfig(
        store="s", out="o", sae=SizeConfig(d_sae=D_SAE, k=K), batch_tokens=TOKENS, allocation=allocation
    )
    shard, features = shard_on(mesh), mesh.features(D_SAE)
    return TrainingState(
        shard=shard,
        engine=PlainEngine(shard, mesh, OptimizerConfig()),
        phases=Phases(config, STEPS, mesh, torch.device("cpu")),
        statistics=FiringStatistics(len(features), 8 * TOKENS, 2 * TOKENS),
        thresholds=ThresholdTracker(len(features)),
        underused=Underused.none(len(features)),
        d_sae=D_SAE,
        auxiliary=MutualSelector(2 * K),
    )


def _train(mesh: Mesh, allocation: str, folder: Path, first: int, last: int) -> dict[str, torch.Tensor]:
    """Steps `first` to `last`, from the checkpoint in `folder` unless it is the beginning; returns the whole state."""
    state, (mean, variance) = _fresh(mesh, allocation), mean_and_variance()
    auxiliary, share = state.auxiliary, TOKENS // mesh.data.size
    if first:
        state.phases.restore(first, None, state.statistics)
        tensors = state.tensors()
        load(folder / f"step-{first:08d}", tensors, mesh.device_mesh)
        state.engine.restore(tensors)
    for step in range(first, last):
        state.phases.prepare(step, state.statistics)
        state.phases.grant(TOKENS)
        auxiliary.allowed = state.underused.members
        x = activations(step)[mesh.data.rank * share : (mesh.data.rank + 1) * share]
        selectors = [state.phases.selector, auxiliary]
        outcome = training_step(state.shard, x, mesh, D_SAE, selectors, mean, variance, 1 / 32)
        state.engine.update(outcome.gradients, 3e-3)
        state.thresholds.update(state.phases.selector)
        state.statistics.update(outcome.matches.feature, TOKENS, mesh.data)
        if step % 3 == 2:
            state.underused = Underused.measure(state.statistics, "aux_zipf", 0.9, mesh.feature)
    if last < STEPS:
        save(folder, last, state.tensors(), {}, mesh.device_mesh)
    return {
        name: torch.cat(mesh.feature.gather(value.local)) if isinstance(value, Shard) else value.clone()
        for name, value in state.tensors().items()
    }


@pytest.mark.parametrize("allocation", ["mutual_choice", "feature_choice"])
@pytest.mark.parametrize("before", [(1, 3), (1, 2)], ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_a_run_goes_on_between_even_and_uneven_shards(before, allocation, tmp_path):
    (expected,) = run_on_mesh(_train, (1, 1), allocation, tmp_path / "straight", 0, STEPS)
    assert expected["underused.members"].any() == (allocation == "mutual_choice")  # FC follows its curve
    run_on_mesh(_train, before, allocation, tmp_path, 0, STOP)
    for after in ((1, 1), (1, 2), (1, 3), (2, 2)):
        for found in run_on_mesh(_train, after, allocation, tmp_path, STOP, STEPS):
            assert found.keys() == expected.keys()
            for name, tensor in expected.items():
                torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-12, msg=f"{name} on {after}")
