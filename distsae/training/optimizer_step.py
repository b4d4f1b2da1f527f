"""One optimizer step, whole: select, reconstruct, update, count.

    state = initial_state(config, shard, mesh, mean, variance)
    for x in batches:
        done = training_step(state, x)

It needs neither a run folder nor a launcher: a notebook or a test can call it. Before anything else is done with them,
the numbers of each stage are checked: a step that is not finite ends in `NonFiniteStep`.
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
    joined,
    micro_batches,
    watched,
)

__all__ = ["Circumstances", "NonFiniteStep", "training_step"]


@dataclass(frozen=True)
class Circumstances:
    """What a step was done with.

    Args:
        learning_rate: its learning rate.
        allocation: its allocation rule.
        k: mean matches per token that its budget was for.
    """

    learning_rate: float
    allocation: str
    k: float


class NonFiniteStep(Diverged):
    """A step met numbers that are not finite; the text names them. All ranks raise it alike.

    Attributes:
        step: number of the step, counted from 1.
        circumstances: what it was done with.
        outcome: what it found, if it came so far.
    """

    def __init__(self, text: str, step: int, circumstances: Circumstances, outcome: BatchOutcome | None) -> None:
        super().__init__(text)
        self.step = step
        self.circumstances = circumstances
        self.outcome = outcome


def training_step(
    state: TrainingState, x: Tensor, announce: Callable[[str], None] = lambda line: None
) -> Circumstances:
    """Does the next optimizer step: `state` is afterwards one step further. Collective.

    Args:
        state: training as it stands; changed in place.
        x: this data rank's rows of global batch `state.step`, fp32 `[tokens, d_in]`, equal on all feature ranks.
        announce: receives a line for the user when the allocation changes.

    Raises:
        NonFiniteStep: a score, the loss or the gradient norm is not finite. Unless it is the norm, the weights are
            those before the step.
    """
    config, phases, step = state.config, state.phases, state.step
    if line := phases.prepare(step, state.statistics):
        announce(line)
    if step and phases.allocation(step) != phases.allocation(step - 1):
        state.thresholds.restart()
    rate = config.optimizer.rate(step, state.steps, state.shard.d_sae)
    circumstances = Circumstances(rate, phases.allocation(step), phases.k)

    cost = SelectionCost()
    outcome, shortfall = _over_micro_batches(state, x, circumstances, cost)
    _require_finite_losses(outcome, step + 1, circumstances)

    gradient_norm = state.engine.update(outcome.gradients, rate)
    _require_finite_norm(gradient_norm, outcome, step + 1, circumstances)
    if state.average is not None:
        state.average.update(step)

    state.statistics.update(outcome.matches.feature, config.batch_tokens, state.mesh.data)
    phases.observe(outcome.observed)
    state.meter.add(outcome, phases.budget, shortfall, gradient_norm, cost)
    state.step = step + 1
    if state.step % config.auxiliary.refresh_steps == 0 or state.step == state.steps:
        state.underused = Underused.measure(state.statistics, config.aux, config.auxiliary.rho, state.mesh.feature)
    return circumstances


def _over_micro_batches(
    state: TrainingState, x: Tensor, circumstances: Circumstances, cost: SelectionCost
) -> tuple[BatchOutcome, int]:
    """Returns the outcome of the whole batch, and how many matches its selections fell short of the budget."""
    config, phases, mesh = state.config, state.phases, state.mesh
    selectors = watched(_selectors(state), mesh, cost)
    outcomes: list[BatchOutcome] = []
    shortfall = 0
    for part in micro_batches(x, STREAMS // mesh.data.size, config.accumulation):
        phases.grant(config.batch_tokens // config.accumulation)
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
            raise NonFiniteStep(str(error), state.step + 1, circumstances, None) from error
        outcomes.append(outcome)
        shortfall += phases.selector.shortfall
        state.thresholds.update(phases.selector)
    return joined(outcomes), shortfall


def _selectors(state: TrainingState) -> Selectors:
    """Returns the rule of the step, the auxiliary loss's selector if it has features to train, and the observers."""
    auxiliary = None
    if state.underused.share > 0:
        state.auxiliary.allowed = state.underused.members.to(state.shard.b_dec.device)
        auxiliary = state.auxiliary
    return Selectors(state.phases.selector, auxiliary, tuple(state.phases.observers))


def _require_finite_losses(outcome: BatchOutcome, step: int, circumstances: Circumstances) -> None:
    """Checks what a batch found, before anything is changed; the numbers are equal on all ranks."""
    found = {"loss": outcome.loss, "auxiliary loss": outcome.aux_loss}
    if broken := [f"the {name} is {value}" for name, value in found.items() if not math.isfinite(value)]:
        raise NonFiniteStep(" and ".join(broken), step, circumstances, outcome)


def _require_finite_norm(norm: float, outcome: BatchOutcome, step: int, circumstances: Circumstances) -> None:
    """Checks the global gradient norm of an update that was made; DeepSpeed returns -1 when it is not finite."""
    if not 0 <= norm < math.inf:
        shown = math.nan if norm < 0 else norm
        text = f"the gradient norm is {shown} (weights and moments are those after the update)"
        raise NonFiniteStep(text, step, circumstances, outcome)
