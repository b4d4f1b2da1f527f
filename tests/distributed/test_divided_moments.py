"""Divided moments change no bit: of weights, moments, norms and the prefilter, on any data axis, from any gradients.

Hypothesis draws gradients; each rank updates a shard with divided moments and one without, in a few consecutive steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from distsae.allocation import Matches
from distsae.checkpoint import Shard
from distsae.kernels import CPU, MomentsName
from distsae.kernels.plain_update import plain_update
from distsae.model import FeatureShard
from distsae.parallel import GroupCollective, Mesh
from distsae.training import Gradients, OptimizerConfig, PlainEngine
from distsae.training.step.gradients import Term
from tests.distributed.processes import run_on_mesh

SHAPES = ((1, 1), (2, 1), (4, 1), (2, 2))
KINDS = ("random", "tied", "skewed", "empty", "one rank empty", "not finite")
D_IN, TOKENS = 16, 24


@dataclass(frozen=True)
class UpdateCase:
    """A few consecutive updates.

    Args:
        kind: distribution of the matches over the features, and of their numbers.
        features: number of features, over all ranks.
        terms: number of reconstructions, with the auxiliary one.
        seed: seed of the numbers.
        state: storage of the moments.
        clip_norm: norm to clip to.
        block_rows: rows of a block.
        whole: whether the kernels update all rows at once, as those of a GPU do.
    """

    kind: str
    features: int
    terms: int
    seed: int
    state: MomentsName
    clip_norm: float | None
    block_rows: int
    whole: bool


cases = st.builds(
    UpdateCase,
    kind=st.sampled_from(KINDS),
    features=st.integers(2, 40),
    terms=st.integers(1, 2),
    seed=st.integers(0, 999),
    state=st.sampled_from(["fp32", "bf16", "int8"]),
    clip_norm=st.sampled_from([None, 0.05]),
    block_rows=st.integers(1, 9),
    whole=st.booleans(),
)


def _gradients(case: UpdateCase, mesh: Mesh, step: int) -> Gradients:
    """Returns the gradients of this rank's tokens and features, a part of the same global ones on every mesh."""
    generator = torch.Generator().manual_seed(100 * case.seed + step)
    share, features = TOKENS // mesh.data.size, mesh.features(case.features)
    tokens = slice(mesh.data.rank * share, (mesh.data.rank + 1) * share)
    terms = []
    for _ in range(case.terms):
        chance = torch.rand(case.features, TOKENS, generator=generator)
        if case.kind == "skewed":
            mask = (torch.arange(case.features)[:, None] == case.seed % case.features).expand(chance.shape).clone()
        else:
            mask = chance < {"empty": 0.0}.get(case.kind, 0.3)
        if case.kind == "one rank empty":
            mask[:, : TOKENS // 4] = False
        score, dots = torch.randn(2, case.features, TOKENS, generator=generator)
        if case.kind == "tied":
            score, dots = torch.ones(2, case.features, TOKENS)
        if case.kind == "not finite":
            dots[case.seed % case.features] = torch.nan
        g = torch.randn(TOKENS, D_IN, generator=generator)[tokens]
        own = (slice(features.start, features.stop), tokens)
        feature, token = mask[own].nonzero().unbind(1)
        found = Matches(token, feature, score[own][feature, token].abs())
        terms.append(Term(found, dots[own][feature, token], g))
    centred = torch.randn(TOKENS, D_IN, generator=generator)[tokens]
    return Gradients(tuple(terms), centred, len(features), CPU)


def _updated(mesh: Mesh, case: UpdateCase, *, divide: bool) -> dict[str, Tensor]:
    """Returns everything that three updates change, of all features, with the numbers as integers. Collective."""
    kernels = replace(CPU, update_rows=plain_update) if case.whole else CPU
    features = mesh.features(case.features)
    shard = FeatureShard(D_IN, case.features, features, torch.zeros(D_IN), 1, kernels=kernels, prefilter=True)
    list(shard.encode_chunks(torch.zeros(1, D_IN)))  # makes the prefilter's copy
    config = OptimizerConfig(state=case.state, clip_norm=case.clip_norm, divide_moments=divide)
    engine = PlainEngine(shard, mesh, config, seed=2, block_bytes=case.block_rows * D_IN * 4)
    norms = [engine.update(_gradients(case, mesh, step), 0.01) for step in range(3)]
    low = shard.prefilter_rows()
    assert low is not None
    found = {"norms": torch.tensor(norms, dtype=torch.float64), "low": torch.cat(mesh.feature.gather(low))}
    for name, parameter in shard.named_parameters():
        whole = parameter.detach().clone()
        found[name] = whole if name == "b_dec" else torch.cat(mesh.feature.gather(whole))
    for name, value in engine.tensors().items():
        assert isinstance(value, Shard) == (
            divide and mesh.data.size > 1 and "step" not in name and not name.endswith("b_dec")
        )
        local = torch.cat(mesh.data.gather(value.local)) if isinstance(value, Shard) else value.clone()
        found[name] = local if name.endswith("b_dec") or not local.dim() else torch.cat(mesh.feature.gather(local))
    return {name: tensor.contiguous().view(-1).view(torch.uint8) for name, tensor in found.items()}


def _both(mesh: Mesh, drawn: list[UpdateCase]) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    return [(_updated(mesh, case, divide=False), _updated(mesh, case, divide=True)) for case in drawn]


def _check(shape: tuple[int, int], drawn: list[UpdateCase]) -> None:
    alone = _both_on((1, 1), drawn)[0]
    for rank in _both_on(shape, drawn):
        for case, (before, divided), (expected, _) in zip(drawn, rank, alone, strict=True):
            assert [name for name in before if not torch.equal(before[name], divided[name])] == [], case
            if shape[1] == 1:
                assert [name for name in expected if not torch.equal(expected[name], divided[name])] == [], case


def _both_on(
    shape: tuple[int, int], drawn: list[UpdateCase]
) -> list[list[tuple[dict[str, Tensor], dict[str, Tensor]]]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other processes, since the last bit of a sum may depend on it
    try:
        return run_on_mesh(_both, shape, drawn)
    finally:
        torch.set_num_threads(threads)


QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck))
ON_EVERY_MESH = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")


@ON_EVERY_MESH
@settings(QUIET, max_examples=5, derandomize=True)
@given(drawn=st.lists(cases, min_size=4, max_size=8))
def test_results_are_equal_bit_for_bit(shape, drawn):
    _check(shape, drawn)


@pytest.mark.heavy
@ON_EVERY_MESH
@settings(QUIET, max_examples=150)
@given(drawn=st.lists(cases, min_size=4, max_size=8))
def test_results_are_equal_bit_for_bit_in_many_cases(shape, drawn):
    _check(shape, drawn)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole", [False, True], ids=["in blocks", "whole"])
def test_every_kind_of_gradients_with_every_state(kind, whole):
    drawn = [
        UpdateCase(kind, 21, 2, 3, state, clip_norm, 4, whole)
        for state, clip_norm in (("fp32", 0.05), ("bf16", None), ("int8", None))
    ]
    for shape in ((4, 1), (2, 2)):
        _check(shape, drawn)


def _received(mesh: Mesh, case: UpdateCase) -> tuple[int, int]:
    """Returns the bytes received in an update without and with divided moments, and checks what is held."""
    assert isinstance(mesh.data, GroupCollective)
    received, held = [], []
    for divide in (False, True):
        shard = FeatureShard(D_IN, case.features, mesh.features(case.features), torch.zeros(D_IN), 1)
        config = OptimizerConfig(divide_moments=divide)
        engine = PlainEngine(shard, mesh, config, block_bytes=case.block_rows * D_IN * 4)
        before = mesh.data.bytes_received
        engine.update(_gradients(case, mesh, 0), 0.01)
        received.append(mesh.data.bytes_received - before)
        moments = engine.tensors()["adam.exp_avg.W_dec"]
        held.append((moments.local if isinstance(moments, Shard) else moments).shape[0])
    assert held[0] == mesh.data.size * held[1]
    return received[0], received[1]


@pytest.mark.parametrize("ranks", [2, 4])
def test_what_is_sent_and_held(ranks):
    """New rows of both matrices and biases, and for each block its part of `b_dec`'s gradient and its squares."""
    case = UpdateCase("random", 32, 1, 0, "fp32", None, 2, whole=False)
    rows = (ranks - 1) * 32 // ranks
    more = rows * (2 * D_IN + 1) * 4 + rows // 2 * (4 * D_IN + 8)
    for before, divided in run_on_mesh(_received, (ranks, 1), case):
        assert divided - before == more
