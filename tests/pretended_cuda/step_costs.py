"""Launches, waits and bytes of a training step on the pretended device, and how they grow with chunks and blocks.

Steps of equal sizes are taken with some chunks of scores and with twice as many, and with some blocks of the update and
with twice as many: the differences are the cost of a chunk and of a block, and what is left is the rest of the step.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor

from distsae.allocation import MutualSelector, Placement, select
from distsae.kernels import kernels_for
from distsae.losses import Underused
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import (
    AuxiliaryConfig,
    OptimizerConfig,
    PlainEngine,
    Selectors,
    SizeConfig,
    TrainConfig,
    forward_backward,
    initial_state,
    training_step,
)
from tests.pretended_cuda.ledger import LEDGER
from tests.pretended_cuda.pretending import pretended_cuda
from tests.pretended_cuda.tensors import CUDA

__all__ = ["EVERY_BATCH", "Growth", "StepCost", "bytes_a_score", "bytes_a_weight", "growth_of", "step_cost"]

TOKENS = 512
D_IN = 64
CHUNK = 16
"""Features of a chunk."""

EVERY_BATCH = "feature_choice, every batch"
"""Feature Choice with quotas that hold in every batch."""

_K = 2
_STEPS = 10
_SETTLED = 5
"""Steps before the first that is counted: forecasts and bounds have to be found."""

_BYTES_OF_A_SCORE = (48, 24)  # as distsae.model.selection_memory has them, without and with the prefilter


@dataclass(frozen=True)
class StepCost:
    """The cost of one step: the median of several.

    Args:
        launches: kernels launched.
        waits: waits of the CPU for the device.
        launched_at: kernels launched by each line, in the last step.
        waited_at: waits at each line, in the last step.
    """

    launches: float
    waits: float
    launched_at: Counter[str]
    waited_at: Counter[str]


@dataclass(frozen=True)
class Growth:
    """Launches or waits of a step: those of each chunk, those of each block of the update, and the rest."""

    chunk: float
    block: float
    rest: float

    def at(self, chunks: int, blocks: int) -> float:
        """Returns the number in a step of so many chunks and blocks."""
        return self.rest + chunks * self.chunk + blocks * self.block


def step_cost(rule: str, *, auxiliary: bool, prefilter: bool = True, chunks: int = 2, blocks: int = 1) -> StepCost:
    """Measures steps of 512 tokens, 2 matches a token and 16 features a chunk.

    Args:
        rule: allocation rule, or `EVERY_BATCH`.
        auxiliary: whether every second feature is trained by the auxiliary loss.
        prefilter: whether scores are prefiltered.
        chunks: chunks of scores.
        blocks: blocks of the update.
    """
    features = CHUNK * chunks
    config = TrainConfig(
        store="",
        out="",
        steps=_STEPS,
        batch_tokens=TOKENS,
        sae=SizeConfig(d_sae=features, k=_K),
        allocation=rule.split(",")[0],
        quotas_hold="every_batch" if rule == EVERY_BATCH else "on_average",
        init_scale=1.0,
        auxiliary=AuxiliaryConfig(refresh_steps=1000),
        optimizer=OptimizerConfig(lr=1e-4),
    )
    mesh = build_mesh(MeshConfig(), 1, "cuda")
    generator = torch.Generator().manual_seed(0)
    mean = torch.zeros(D_IN)
    megabytes = CHUNK * TOKENS * _BYTES_OF_A_SCORE[prefilter] / (1 << 20)
    with pretended_cuda():
        shard = FeatureShard(
            D_IN, features, range(features), mean, 3, megabytes, kernels_for("triton", CUDA), prefilter
        ).to(CUDA)
        state = initial_state(config, shard, mesh, mean.to(CUDA), float(D_IN))
        block_bytes = -(-features // blocks) * D_IN * 4
        state.engine = PlainEngine(shard, mesh, config.optimizer, block_bytes=block_bytes)
        if auxiliary:
            state.underused = Underused((torch.arange(features) % 2 == 0).to(CUDA), 0.5, 0.0, 0.5)
        found = []
        for step in range(_STEPS - 1):
            x = torch.randn(TOKENS, D_IN, generator=generator).to(CUDA)
            LEDGER.clear()
            training_step(state, x)
            if step >= _SETTLED:
                launches, waits, _ = LEDGER.totals()
                found.append((launches, waits))
        launched, waited = zip(*found, strict=True)
        return StepCost(median(launched), median(waited), LEDGER.launched_at.copy(), LEDGER.waited_at.copy())


def growth_of(rule: str, *, auxiliary: bool, prefilter: bool = True) -> tuple[Growth, Growth]:
    """Returns how the launches and the waits of a step grow."""

    def measured(chunks: int, blocks: int) -> StepCost:
        return step_cost(rule, auxiliary=auxiliary, prefilter=prefilter, chunks=chunks, blocks=blocks)

    few, more_chunks, more_blocks = measured(4, 1), measured(8, 1), measured(4, 2)
    growths = []
    for name in ("launches", "waits"):
        least = getattr(few, name)
        chunk = (getattr(more_chunks, name) - least) / 4
        block = getattr(more_blocks, name) - least
        growths.append(Growth(chunk, block, least - 4 * chunk - block))
    return growths[0], growths[1]


def bytes_a_weight(state: str, features: int = 512, d_in: int = 256) -> float:
    """Returns the bytes that an update reads and writes for each number of both matrices, matched rows left out.

    Args:
        state: storage of Adam's moments.
        features: number of features.
        d_in: width of a row.
    """
    mesh = build_mesh(MeshConfig(), 1, "cuda")
    mean = torch.zeros(d_in)
    with pretended_cuda():
        kernels = kernels_for("triton", CUDA)
        shard = FeatureShard(d_in, features, range(features), mean, 3, 64, kernels, prefilter=True).to(CUDA)
        list(shard.encode_chunks(_rows(8, d_in)))  # so that the prefilter has its copy of the rows
        engine = PlainEngine(shard, mesh, OptimizerConfig(state=state))
        selectors = Selectors(MutualSelector(_K))
        outcome = forward_backward(shard, _rows(64, d_in), mesh, selectors, mean.to(CUDA), 1.0, 0.0)
        LEDGER.clear()
        engine.update(outcome.gradients, 1e-4)
        return LEDGER.totals()[2] / (2 * features * d_in)


def bytes_a_score(*, direct: bool, features: int = 4096, tokens: int = 1024, d_in: int = 16) -> float:
    """Returns the bytes that Mutual Choice reads and writes for each score, once it has a forecast.

    Args:
        direct: whether kernels may compare scores before they are stored.
        features: number of features.
        tokens: number of tokens.
        d_in: width of a row; small, so that rows hardly count, as there are few matches.
    """
    with pretended_cuda():
        kernels = kernels_for("triton", CUDA)
        if not direct:
            kernels = replace(kernels, places_above=None)
        mean = torch.zeros(d_in)
        shard = FeatureShard(d_in, features, range(features), mean, 3, 64, kernels, prefilter=True).to(CUDA)
        selector = MutualSelector(0.25)
        for _ in range(4):  # with a guess for the places, and then a better one
            LEDGER.clear()
            select([selector], partial(shard.encode_chunks, _rows(tokens, d_in)), Placement.solo(features), tokens)
        return LEDGER.totals()[2] / (features * tokens)


def _rows(number: int, d_in: int) -> Tensor:
    return torch.randn(number, d_in, generator=torch.Generator().manual_seed(0)).to(CUDA)
