"""One logged line: everything that is measured when it is due, and the warnings that follow from it."""

from __future__ import annotations

from typing import Any

from distsae.losses import Concentration
from distsae.training.freezing import FrozenGap, heldout_values
from distsae.training.optimizer_step import Circumstances
from distsae.training.state import TrainingState

__all__ = ["logged_line", "shown_values"]


def logged_line(
    state: TrainingState, circumstances: Circumstances, gap: FrozenGap | None
) -> tuple[dict[str, Any], list[str]]:
    """Returns the values of a line of `metrics.jsonl`, and warnings for the user. Collective; a new window begins.

    Args:
        state: training after its last step.
        circumstances: what that step was done with.
        gap: held-out figures of this line; None if they are not due.
    """
    concentration = Concentration.measure(state.statistics, state.mesh.feature)
    values = state.meter.line(
        state.step,
        circumstances.learning_rate,
        state.thresholds.mean(state.mesh, state.shard.b_dec.device),
        state.underused,
        concentration,
        circumstances.allocation,
        circumstances.k,
    )
    return values | heldout_values(gap), state.alarms.check(state.step, concentration)


def shown_values(line: dict[str, Any]) -> dict[str, float | str]:
    """Returns what the progress bar shows of a line."""
    return {
        "loss": line["loss"],
        "L0": line["l0"],
        "dead": line["dead_share"],
        "tok_s": line["tokens_per_second"],
    }
