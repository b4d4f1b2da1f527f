"""The numbers of a run, defined once: the bar, wandb and metrics.jsonl show the same values."""

from __future__ import annotations

import time
from typing import Any

from distsae.losses import Underused
from distsae.training.step import StepOutcome

__all__ = ["Meter"]


class Meter:
    """Averages steps between two logged lines; everything is of global batches and counted in tokens.

    Args:
        batch_tokens: tokens of a global batch.
        seconds: training seconds of earlier processes of the run.
    """

    def __init__(self, batch_tokens: int, seconds: float = 0.0) -> None:
        self._batch_tokens, self._before = batch_tokens, seconds
        self._started = self._window_started = time.perf_counter()
        self._clear()

    @property
    def seconds(self) -> float:
        """Training seconds of the run so far, those of earlier processes included."""
        return self._before + time.perf_counter() - self._started

    def add(self, outcome: StepOutcome, budget: int, shortfall: int, gradient_norm: float) -> None:
        """Takes one step's outcome."""
        self._steps += 1
        self._loss += outcome.loss
        self._aux_loss += outcome.aux_loss
        self._squared_error += outcome.squared_error
        self._energy += outcome.energy
        self._matches += budget - shortfall
        self._shortfall += shortfall
        self._gradient_norm += gradient_norm

    def line(
        self, step: int, learning_rate: float, threshold: float | None, underused: Underused, allocation: str
    ) -> dict[str, Any]:
        """Returns the values of one logged line and starts the next window.

        Args:
            step: steps done.
            learning_rate: of the last step.
            threshold: mean frozen threshold, None for a rule without.
            underused: the features that fire too little.
            allocation: the rule of the last step.
        """
        now = time.perf_counter()
        tokens = self._steps * self._batch_tokens
        values = {
            "step": step,
            "tokens": step * self._batch_tokens,
            "loss": self._loss / self._steps,
            "fvu": self._squared_error / self._energy if self._energy > 0 else float("nan"),
            "aux_loss": self._aux_loss / self._steps,
            "l0": self._matches / tokens,
            "shortfall": self._shortfall / self._steps,
            "dead_share": underused.dead_share,
            "underutilised_share": underused.underutilised_share,
            "aux_share": underused.share,
            "zipf_s": underused.fit.s if underused.fit else None,
            "zipf_q": underused.fit.q if underused.fit else None,
            "zipf_r_squared": underused.fit.r_squared if underused.fit else None,
            "threshold": threshold,
            "allocation": allocation,
            "lr": learning_rate,
            "grad_norm": self._gradient_norm / self._steps,
            "tokens_per_second": tokens / max(now - self._window_started, 1e-9),
            "seconds": self.seconds,
        }
        self._window_started = now
        self._clear()
        return values

    def _clear(self) -> None:
        self._steps = self._matches = self._shortfall = 0
        self._loss = self._aux_loss = self._squared_error = self._energy = self._gradient_norm = 0.0
