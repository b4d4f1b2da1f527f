"""One optimizer step, whole: select, reconstruct, update, count.

    state = initial_state(config, shard, mesh, mean, variance)
    for x in batches:
        training_step(state, x)

It needs neither a run folder nor a launcher: a notebook or a test can call it. The numbers of each stage are checked
before the next stage uses them, and `NonFiniteStep` is raised if one is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from distsae.batches import STREAMS
from distsae.errors import Diverged, NonFiniteScores
from distsae.losses import Underused
from distsae.training.state import TrainingState
from distsae.training.step import (
    BatchOutcome,
    SelectionCost,
    Selectors,
    forward_backward,
    joined_outcome,
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


def training_step(state: TrainingState, x: Tensor, announce: Callable[[str], None] = lambda line: None) -> StepSettings:
    """Does the next optimizer step, which takes `state` one step further. Collective.

    Args:
        state: state of the training; changed in place.
        x: this data rank's rows of global batch `state.step`, fp32 `[tokens, d_in]`, equal on all feature ranks.
        announce: function that receives a line for the user when the rule or its quotas change.

    Returns:
        Learning rate and rule of the step.

    Raises:
        NonFiniteStep: a score, a loss or the gradient norm is not finite. If it is the norm, the weights have been
            updated already; otherwise they are those before the step. `state` must not be stepped again.
    """
    config = state.config
    phases = state.phases
    step = state.step
    change = phases.prepare(step, state.statistics)  # sets rule, budget and quotas of this step
    if change:
        announce(change)
    if step and phases.allocation(step) != phases.allocation(step - 1):
        state.thresholds.restart()
    rate = config.optimizer.rate(step, state.steps, state.shard.d_sae)
    settings = StepSettings(rate, phases.allocation(step), phases.k)

    cost = SelectionCost()
    outcome, shortfall = _over_micro_batches(state, x, settings, cost)
    _require_finite_losses(outcome, step + 1, settings)

    gradient_norm = state.engine.update(outcome.gradients, rate)
    _require_finite_norm(gradient_norm, outcome, step + 1, settings)
    if state.average is not None:
        state.average.update(step)

    state.statistics.update(outcome.matches.feature, config.batch_tokens, state.mesh.data)
    phases.observe(outcome.observed)
    state.meter.add(outcome, phases.budget, shortfall, gradient_norm, cost)
    state.step = step + 1
    if state.step % config.auxiliary.refresh_steps == 0 or state.step == state.steps:
        state.underused = Underused.measure(state.statistics, config.aux, config.auxiliary.rho, state.mesh.feature)
    return settings


def _over_micro_batches(
    state: TrainingState, x: Tensor, settings: StepSettings, cost: SelectionCost
) -> tuple[BatchOutcome, int]:
    """Returns the outcome of the whole batch, and the number of matches by which its selections missed the budget."""
    config = state.config
    phases = state.phases
    mesh = state.mesh
    selectors = watched(_selectors(state), mesh, cost)
    outcomes: list[BatchOutcome] = []
    shortfall = 0
    for part in micro_batches(x, STREAMS // mesh.data.size, config.accumulation):
        phases.grant_quotas(config.batch_tokens // config.accumulation)
        try:
            outcome = forward_backward(
                state.shard,
                part,
                mesh,
                selectors,
                state.mean,
                state.variance,
                config.auxiliary.alpha,
                1 / config.accumulation,
            )
        except NonFiniteScores as error:
            raise NonFiniteStep(str(error), state.step + 1, settings, None) from error
        outcomes.append(outcome)
        shortfall += phases.selector.shortfall
        state.thresholds.update(phases.selector)
    return joined_outcome(outcomes), shortfall


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
