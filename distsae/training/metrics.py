"""The numbers of a run, defined once: the bar, wandb and metrics.jsonl show the same values."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from distsae.losses import Concentration, Underused
from distsae.training.step import BatchOutcome, SelectionCost

__all__ = ["Meter", "TrainingClock", "all_stopped"]

_SUMS = (
    "steps",
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


class TrainingClock:
    """Seconds that training takes; what is not training stops it."""

    def __init__(self) -> None:
        self._elsewhere = 0.0

    def now(self) -> float:
        """Returns seconds from some moment on."""
        return time.perf_counter() - self._elsewhere

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leaves out the time that is spent meanwhile."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._elsewhere += time.perf_counter() - began


@contextmanager
def all_stopped(clocks: Iterable[TrainingClock]) -> Iterator[None]:
    """Stops several clocks."""
    with ExitStack() as stack:
        for clock in clocks:
            stack.enter_context(clock.stopped())
        yield


class Meter:
    """Averages steps between two logged lines; everything is of global batches and counted in tokens.

    Args:
        batch_tokens: tokens of a global batch.
        clock: clock of the training time, from which seconds are taken.
    """

    def __init__(self, batch_tokens: int, clock: TrainingClock) -> None:
        self._batch_tokens = batch_tokens
        self.clock = clock
        self._before = self._window_before = 0.0
        self._started = self._window_started = self.clock.now()
        self._clear()

    @property
    def seconds(self) -> float:
        """Training seconds of the run so far, those of earlier processes included."""
        return self._before + self.clock.now() - self._started

    def facts(self) -> dict[str, float]:
        """Returns the sums of the unfinished window and the seconds; with them a resumed run logs the same lines."""
        window_seconds = self._window_before + self.clock.now() - self._window_started
        return {name: getattr(self, f"_{name}") for name in _SUMS} | {
            "seconds": self.seconds,
            "window_seconds": window_seconds,
        }

    def restore(self, state: dict[str, float]) -> None:
        """Goes on from what `state` returned."""
        self._before, self._window_before = state["seconds"], state["window_seconds"]
        self._started = self._window_started = self.clock.now()
        for name in _SUMS:
            setattr(self, f"_{name}", state[name])

    def add(
        self, outcome: BatchOutcome, budget: int, shortfall: int, gradient_norm: float, cost: SelectionCost
    ) -> None:
        """Takes one step's outcome."""
        self._steps += 1
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
        """Returns the values of one logged line and starts the next window.

        Args:
            step: steps done.
            learning_rate: of the last step.
            threshold: mean frozen threshold, None for a rule without.
            underused: the features that fire too little.
            concentration: whether the dictionary collapses.
            allocation: the rule of the last step.
            k: mean matches per token that the last step's budget was for.
        """
        now = self.clock.now()
        tokens = self._steps * self._batch_tokens
        values = {
            "step": step,
            "tokens": step * self._batch_tokens,
            "loss": self._loss / self._steps,
            "fvu": self._squared_error / self._energy if self._energy > 0 else float("nan"),
            "aux_loss": self._aux_loss / self._steps,
            "k": k,
            "l0": self._matches / tokens,
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
            "tokens_per_second": tokens / max(self._window_before + now - self._window_started, 1e-9),
            "seconds": self.seconds,
        }
        self._window_started, self._window_before = now, 0.0
        self._clear()
        return values

    def _clear(self) -> None:
        self._steps = self._matches = self._shortfall = 0
        self._second_passes = self._collectives = self._bytes_received = 0
        self._loss = self._aux_loss = self._squared_error = self._energy = self._gradient_norm = 0.0
