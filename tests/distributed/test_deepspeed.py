"""The deepspeed engine makes the updates of the plain engine, on every mesh and from the same checkpoints."""

from __future__ import annotations

import re
from itertools import product

import pytest
import torch
from torch import Tensor

from distsae.allocation import MutualSelector
from distsae.checkpoint import Streamed
from distsae.errors import DistsaeError
from distsae.parallel import Mesh, MeshConfig, build_mesh
from distsae.training import OptimizerConfig, PlainEngine, Selectors, forward_backward
from distsae.training.engines.deepspeed import DeepSpeedEngine
from distsae.training.engines.deepspeed_checks import global_norm
from distsae.training.engines.deepspeed_config import DeepSpeedConfig
from tests.distributed.faults import CHECKS
from tests.distributed.processes import run_on_mesh
from tests.distributed.traced_runs import ShortRun, traced
from tests.training.samples import TOKENS, K, activations, mean_and_variance, shard_on

pytest.importorskip("deepspeed")

OPTIMIZER = OptimizerConfig(clip_norm=0.5)


def _steps(mesh: Mesh, shard, engine, first: int, last: int) -> list[tuple[float, float]]:
    mean, variance = mean_and_variance(torch.float32)
    share = TOKENS // mesh.data.size
    selector = MutualSelector(K)
    found = []
    for step in range(first, last):
        x = activations(step, torch.float32)[mesh.data.rank * share : (mesh.data.rank + 1) * share]
        outcome = forward_backward(shard, x, mesh, Selectors(selector), mean, variance, 1 / 32)
        found.append((outcome.loss, engine.update(outcome.gradients, 3e-3)))
    return found


def _train(mesh: Mesh, engines: list[DeepSpeedConfig | None]) -> tuple[list[tuple[float, float]], dict[str, Tensor]]:
    """Does five steps with each engine, which continues from the state of the one before; None is the plain engine."""
    shard = shard_on(mesh, torch.float32)
    state = None
    found = []
    for index, zero in enumerate(engines):
        fresh = shard_on(mesh, torch.float32)
        with torch.no_grad():
            for parameter, before in zip(fresh.parameters(), shard.parameters(), strict=True):
                parameter.copy_(before)
        shard = fresh
        engine = PlainEngine(shard, mesh, OPTIMIZER) if zero is None else DeepSpeedEngine(shard, mesh, OPTIMIZER, zero)
        if state is not None:
            live = engine.tensors()
            assert live.keys() == state.keys()
            for name, value in live.items():
                assert tuple(value.shape) == tuple(state[name].shape)
                if isinstance(value, Streamed):
                    value.write(state[name])
                else:
                    value.copy_(state[name])
            engine.restore(live)
        found += _steps(mesh, shard, engine, 5 * index, 5 * index + 5)
        state = {
            name: value.read() if isinstance(value, Streamed) else value.clone()
            for name, value in engine.tensors().items()
        }
    weights = {
        name: parameter.detach().clone() if name == "b_dec" else torch.cat(mesh.feature.gather(parameter.detach()))
        for name, parameter in shard.named_parameters()
    }
    return found, weights


ENGINES: dict[str, list[DeepSpeedConfig | None]] = {
    "zero 1, zero 2": [DeepSpeedConfig(), DeepSpeedConfig(zero_stage=2)],
    "plain, zero 1, plain": [None, DeepSpeedConfig(), None],
    "zero 2": [DeepSpeedConfig(zero_stage=2)],
}


@pytest.mark.parametrize(
    ("shape", "engines"),
    [
        *product([(1, 2), (2, 1), (2, 2), (1, 3)], ["zero 1, zero 2", "plain, zero 1, plain"]),
        *product([(1, 2), (2, 1)], ["zero 2"]),  # from the start; zero 1 starts above
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}x{value[1]}",
)
def test_equals_the_plain_engine_on_one_process(shape, engines):
    engines = ENGINES[engines]
    ((expected, weights),) = run_on_mesh(_train, (1, 1), [None] * len(engines))
    for found, others in run_on_mesh(_train, shape, engines):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-4, atol=1e-6)
        for name, tensor in weights.items():
            torch.testing.assert_close(others[name], tensor, rtol=1e-4, atol=1e-5)


def _refusal(mesh: Mesh, run: ShortRun) -> str:
    try:
        traced(mesh, run)
    except DistsaeError as error:
        return f"{type(error).__name__}: {error}"
    return "none"


@pytest.mark.parametrize(
    ("fault", "shape", "found"),
    [
        ("untagged shard", (1, 2), "W_enc as replicated"),
        ("tagged b_dec", (1, 2), "b_dec as sharded"),
        ("no mpu", (1, 2), r"ranks \[0, 1\] as the data axis instead of \[0\]"),
        ("no mpu", (2, 2), r"ranks \[0, 1, 2, 3\] as the data axis instead of \[0, 2\]"),
        ("wrong axis", (2, 2), r"ranks \[0, 1\] as the data axis instead of \[0, 2\]"),
        ("no data axis", (2, 1), "1 x 1 for 2 processes"),
    ],
)
def test_a_mesh_that_deepspeed_misunderstands_is_refused_at_the_start(fault, shape, found):
    run = ShortRun("mutual_choice", 1, torch.float32, zero=DeepSpeedConfig(), fault=fault, unchecked=())
    message = rf"WrongInput: `engine` \(=deepspeed\) must see the mesh of {shape[0]} x {shape[1]} .* got ({found}) "
    for refusal in run_on_mesh(_refusal, shape, run):
        assert re.match(message, refusal), refusal


@pytest.mark.parametrize(
    ("fault", "shape"),
    [("untagged shard", (1, 2)), ("tagged b_dec", (1, 2)), ("no mpu", (1, 2)), ("no data axis", (2, 1))],
)
@pytest.mark.parametrize("stage", [1, 2])
def test_a_fault_that_only_the_gradient_norm_shows_is_refused_at_the_first_update(fault, shape, stage):
    zero = DeepSpeedConfig(zero_stage=stage)
    run = ShortRun("mutual_choice", 1, torch.float32, zero=zero, fault=fault, unchecked=CHECKS[:1])
    (alone,) = run_on_mesh(traced, (1, 1), ShortRun("mutual_choice", 1, torch.float32))
    for refusal in run_on_mesh(_refusal, shape, run):
        assert re.match(r"CannotContinue: at the first update DeepSpeed found a global gradient norm of ", refusal)
        reported, expected = (float(number) for number in re.findall(r"\d\.\d+", refusal))
        if fault != "no mpu":  # without an mpu DeepSpeed starts with the weights of rank 0 on all ranks
            assert expected == pytest.approx(alone.norms[0], rel=1e-5)
        assert reported != pytest.approx(expected, rel=1e-3)


def test_the_norm_of_wide_gradients_is_exact():
    """A sum in fp32 differed by more than the check allows, so that a correct run was refused."""
    alone = build_mesh(MeshConfig(), 1, "cpu")
    rows = torch.randn(32768, 256, generator=torch.Generator().manual_seed(0)) * 1e-5
    gradients = {"W_enc": rows, "W_dec": rows, "b_enc": rows[:, 0], "b_dec": rows[0]}
    expected = sum(float(part.double().square().sum()) for part in gradients.values()) ** 0.5
    assert global_norm(gradients, alone) == pytest.approx(expected, rel=1e-9)
