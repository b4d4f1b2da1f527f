"""One optimizer step, whole: select, reconstruct, update, count.

    state = initial_state(config, shard, mesh, mean, variance)
    for x in batches:
        training_step(state, Batch(x))

It needs neither a run folder nor a launcher: a notebook or a test can call it. The numbers of each stage are checked
before the next stage uses them, and `NonFiniteStep` is raised if one is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.batches import STREAMS, Batch
from distsae.errors import Diverged, NonFiniteScores
from distsae.losses import Underused
from distsae.training.engines import WeightAverage
from distsae.training.state import TrainingState
from distsae.training.step import (
    BatchOutcome,
    LeftOut,
    SelectionCost,
    Selectors,
    fitted_encoder_scale,
    forward_backward,
    joined_outcome,
    left_out_of,
    micro_batches,
    watched,
)

__all__ = ["NonFiniteStep", "StepSettings", "training_step"]


@dataclass(frozen=True)
class StepSettings:
    """Learning rate and rule of a step.

    Args:
        learning_rate: learning rate of the step.
        allocation: allocation rule of the step.
        k: mean matches per token that the budget of the step allows.
    """

    learning_rate: float
    allocation: str
    k: float


class NonFiniteStep(Diverged):
    """Numbers of a step were not finite. All ranks raise it, with a text that names the numbers.

    Attributes:
        step: number of the step, counted from 1.
        settings: learning rate and rule of the step.
        outcome: losses, matches and gradients of the step; None if scores were not finite.
    """

    def __init__(self, text: str, step: int, settings: StepSettings, outcome: BatchOutcome | None) -> None:
        super().__init__(text)
        self.step = step
        self.settings = settings
        self.outcome = outcome


def training_step(
    state: TrainingState, batch: Batch | Tensor, announce: Callable[[str], None] = lambda line: None
) -> StepSettings:
    """Does the next optimizer step, which takes `state` one step further. Collective.

    Args:
        state: state of the training; changed in place.
        batch: this data rank's rows of global batch `state.step`, equal on all feature ranks; a tensor is a batch of
            which no row is left out, fp32 `[tokens, d_in]`, normalised.
        announce: function that receives a line for the user when the rule or its quotas change.

    Returns:
        Learning rate and rule of the step.

    Raises:
        NonFiniteStep: a score, a loss or the gradient norm is not finite. If it is the norm, the weights have been
            updated already; otherwise they are those before the step. `state` must not be stepped again.
    """
    if isinstance(batch, Tensor):
        batch = Batch(batch)
    config = state.config
    phases = state.phases
    step = state.step
    change = phases.prepare(step, state.statistics)  # sets rule, budget and quotas of this step
    if change:
        announce(change)
    if step and phases.allocation(step) != phases.allocation(step - 1):
        state.thresholds.restart()
    if step == 0 and config.init is None:
        announce(_scale_encoder(state, batch))
    rate = config.optimizer.rate(step, state.steps, state.shard.d_sae)
    settings = StepSettings(rate, phases.allocation(step), phases.k)

    cost = SelectionCost()
    outcome, budget, shortfall = _over_micro_batches(state, batch, settings, cost)
    _require_finite_losses(outcome, step + 1, settings)

    gradient_norm = state.engine.update(outcome.gradients, rate)
    _require_finite_norm(gradient_norm, outcome, step + 1, settings)
    if state.average is not None:
        state.average.update(step)

    state.statistics.update(outcome.matches.feature, outcome.tokens, state.mesh.data)
    phases.observe(outcome.observed, outcome.tokens)
    state.meter.add(outcome, budget, shortfall, gradient_norm, cost)
    state.step = step + 1
    if state.step % config.auxiliary.refresh_steps == 0 or state.step == state.steps:
        state.underused = Underused.measure(state.statistics, config.aux, config.auxiliary.rho, state.mesh.feature)
    return settings


def _scale_encoder(state: TrainingState, batch: Batch) -> str:
    """Scales the initial encoder rows, and returns a line for the user. Collective.

    Args:
        state: state before the first step, whose rule and quotas are prepared.
        batch: this data rank's rows of the first batch.
    """
    config = state.config
    shard = state.shard
    fitted = config.init_scale == "auto"
    scale = config.init_scale
    if scale == "auto":
        parts = _micro_batches(state, batch)
        credit = state.phases.fresh_credit()
        try:
            scale = fitted_encoder_scale(shard, parts, state.mesh, state.phases.fresh_selector(), credit)
        except NonFiniteScores:
            scale = 1.0  # the step itself finds the same scores, and reports them
    with torch.no_grad():
        shard.W_enc.mul_(scale)
    state.engine.take_over_encoder()
    if config.ema_decay is not None:
        state.average = WeightAverage(shard, config.ema_decay)
    state.init_scale = scale
    return f"step 1: encoder rows are {scale:g} times the decoder rows" + (", which fits the first batch best" * fitted)


def _micro_batches(state: TrainingState, batch: Batch) -> list[tuple[Tensor, LeftOut]]:
    """Returns the rows of each micro-batch, and those of them that are left out. Collective."""
    parts = micro_batches(batch, STREAMS // state.mesh.data.size, state.config.accumulation)
    left_out = left_out_of([part.left_out for part in parts], state.mesh)
    return [(part.x, rows) for part, rows in zip(parts, left_out, strict=True)]


def _over_micro_batches(
    state: TrainingState, batch: Batch, settings: StepSettings, cost: SelectionCost
) -> tuple[BatchOutcome, int, int]:
    """Returns the outcome of the whole batch, its budget, and the number of matches by which the budget was missed."""
    config = state.config
    phases = state.phases
    mesh = state.mesh
    selectors = watched(_selectors(state), mesh, cost)
    outcomes: list[BatchOutcome] = []
    budget = shortfall = 0
    parts = _micro_batches(state, batch)
    tokens = [config.batch_tokens // len(parts) - left_out.of_all for _, left_out in parts]
    for (x, left_out), kept in zip(parts, tokens, strict=True):
        phases.grant_quotas(kept)
        try:
            outcome = forward_backward(
                state.shard,
                x,
                mesh,
                selectors,
                state.mean,
                state.variance,
                config.auxiliary.alpha,
                kept / max(sum(tokens), 1),
                left_out,
            )
        except NonFiniteScores as error:
            raise NonFiniteStep(str(error), state.step + 1, settings, None) from error
        outcomes.append(outcome)
        budget += phases.budget(kept)
        shortfall += phases.selector.shortfall
        state.thresholds.update(phases.selector)
        phases.move_prices(outcome.matches, kept)
    return joined_outcome(outcomes), budget, shortfall


def _selectors(state: TrainingState) -> Selectors:
    """Returns the rule of the step, the auxiliary loss's selector if it has features to train, and the observers."""
    auxiliary = None
    if state.underused.share > 0:
        state.auxiliary.allowed = state.underused.members.to(state.shard.b_dec.device)
        auxiliary = state.auxiliary
    return Selectors(state.phases.selector, auxiliary, tuple(state.phases.observers))


def _require_finite_losses(outcome: BatchOutcome, step: int, settings: StepSettings) -> None:
    """Checks the losses of a batch, which are equal on all ranks, before anything is changed."""
    found = {"loss": outcome.loss, "auxiliary loss": outcome.aux_loss}
    if broken := [f"the {name} is {value}" for name, value in found.items() if not math.isfinite(value)]:
        raise NonFiniteStep(" and ".join(broken), step, settings, outcome)


def _require_finite_norm(norm: float, outcome: BatchOutcome, step: int, settings: StepSettings) -> None:
    """Checks the global gradient norm after the update; DeepSpeed returns -1 for a norm that is not finite."""
    if not 0 <= norm < math.inf:
        shown = math.nan if norm < 0 else norm
        text = f"the gradient norm is {shown} (weights and moments are those after the update)"
        raise NonFiniteStep(text, step, settings, outcome)
