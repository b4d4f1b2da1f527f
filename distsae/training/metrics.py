"""The numbers of a run, defined once: the progress bar, wandb and metrics.jsonl show the same values."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from distsae.losses import Concentration, Underused
from distsae.training.step import BatchOutcome, SelectionCost

__all__ = ["METER_FACTS", "Meter", "TrainingClock", "all_stopped"]

_SUMS = (
    "steps",
    "tokens",
    "matches",
    "shortfall",
    "loss",
    "aux_loss",
    "squared_error",
    "energy",
    "gradient_norm",
    "second_passes",
    "collectives",
    "bytes_received",
)

METER_FACTS = (*(name for name in _SUMS if name != "tokens"), "seconds", "window_seconds")
"""Names of the numbers that every checkpoint keeps of a meter; older ones lack `tokens`."""


class TrainingClock:
    """A clock of the time that training takes: it is stopped while the process does something else."""

    def __init__(self) -> None:
        self._stopped_for = 0.0

    def now(self) -> float:
        """Returns the reading of the clock in seconds; only differences of readings have a meaning."""
        return time.perf_counter() - self._stopped_for

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stops the clock during the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._stopped_for += time.perf_counter() - began


@contextmanager
def all_stopped(clocks: Iterable[TrainingClock]) -> Iterator[None]:
    """Stops several clocks during the block."""
    with ExitStack() as stack:
        for clock in clocks:
            stack.enter_context(clock.stopped())
        yield


class Meter:
    """Sums over the steps since the last logged line, from which the next line is made.

    Losses and matches are of global batches; seconds and the cost of selections are this rank's.

    Args:
        batch_tokens: token rows of a global batch.
        clock: clock of the training time.
    """

    def __init__(self, batch_tokens: int, clock: TrainingClock) -> None:
        self._batch_tokens = batch_tokens
        self.clock = clock
        self._before = self._window_before = 0.0
        self._started = self._window_started = self.clock.now()
        self._clear()

    @property
    def seconds(self) -> float:
        """Seconds of training since the run began, including those before a resume."""
        return self._before + self.clock.now() - self._started

    def facts(self) -> dict[str, float]:
        """Returns the seconds and the sums since the last line; with them a resumed run logs the same lines."""
        window_seconds = self._window_before + self.clock.now() - self._window_started
        return {name: getattr(self, f"_{name}") for name in _SUMS} | {
            "seconds": self.seconds,
            "window_seconds": window_seconds,
        }

    def restore(self, facts: dict[str, float]) -> None:
        """Continues from the facts of a checkpoint, as `facts` returned them."""
        self._before, self._window_before = facts["seconds"], facts["window_seconds"]
        self._started = self._window_started = self.clock.now()
        facts = {"tokens": facts["steps"] * self._batch_tokens, **facts}  # older checkpoints leave no rows out
        for name in _SUMS:
            setattr(self, f"_{name}", facts[name])

    def add(
        self, outcome: BatchOutcome, budget: int, shortfall: int, gradient_norm: float, cost: SelectionCost
    ) -> None:
        """Adds one step.

        Args:
            outcome: losses, matches and gradients of the step.
            budget: largest number of matches of the step.
            shortfall: number of matches by which the step missed its budget.
            gradient_norm: global norm of the gradients.
            cost: cost of the step's selections on this rank.
        """
        self._steps += 1
        self._tokens += outcome.tokens
        self._loss += outcome.loss
        self._aux_loss += outcome.aux_loss
        self._squared_error += outcome.squared_error
        self._energy += outcome.energy
        self._matches += budget - shortfall
        self._shortfall += shortfall
        self._gradient_norm += gradient_norm
        self._second_passes += cost.passes - 1
        self._collectives += cost.collectives
        self._bytes_received += cost.bytes_received

    def line(
        self,
        step: int,
        learning_rate: float,
        threshold: float | None,
        underused: Underused,
        concentration: Concentration,
        allocation: str,
        k: float,
    ) -> dict[str, Any]:
        """Returns the values of a logged line, and starts the sums of the next one.

        Args:
            step: number of optimizer steps done.
            learning_rate: learning rate of the last step.
            threshold: mean threshold of the frozen rule; None for a rule without thresholds.
            underused: features that fire too little.
            concentration: signs of a collapsing dictionary.
            allocation: allocation rule of the last step.
            k: mean matches per token that the budget of the last step allows.
        """
        now = self.clock.now()
        read = self._steps * self._batch_tokens
        values = {
            "step": step,
            "tokens": step * self._batch_tokens,
            "loss": self._loss / self._steps,
            "fvu": self._squared_error / self._energy if self._energy > 0 else float("nan"),
            "aux_loss": self._aux_loss / self._steps,
            "k": k,
            "l0": self._matches / max(self._tokens, 1),
            "rows_left_out": read - self._tokens,
            "shortfall": self._shortfall / self._steps,
            "dead_share": underused.dead_share,
            "underutilised_share": underused.underutilised_share,
            "aux_share": underused.share,
            "zipf_s": underused.zipf_s,
            "zipf_q": underused.zipf_q,
            "zipf_r_squared": underused.zipf_r_squared,
            "zipf_residual": underused.zipf_residual,
            "top_feature_share": concentration.top_feature_share,
            "token_overlap": concentration.token_overlap,
            "threshold": threshold,
            "allocation": allocation,
            "lr": learning_rate,
            "grad_norm": self._gradient_norm / self._steps,
            "second_passes": self._second_passes,
            "selection_collectives": self._collectives / self._steps,
            "selection_kilobytes": self._bytes_received / 1000 / self._steps,
            "tokens_per_second": read / max(self._window_before + now - self._window_started, 1e-9),
            "seconds": self.seconds,
        }
        self._window_started, self._window_before = now, 0.0
        self._clear()
        return values

    def _clear(self) -> None:
        self._steps = self._tokens = self._matches = self._shortfall = 0
        self._second_passes = self._collectives = self._bytes_received = 0
        self._loss = self._aux_loss = self._squared_error = self._energy = self._gradient_norm = 0.0
