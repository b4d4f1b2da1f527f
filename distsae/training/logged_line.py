"""One logged line: everything that is measured when a line is due, and the warnings that follow from it."""

from __future__ import annotations

from typing import Any

from distsae.losses import Concentration
from distsae.training.freezing import FrozenGap, heldout_values
from distsae.training.optimizer_step import StepSettings
from distsae.training.state import TrainingState

__all__ = ["logged_line", "shown_values"]


def logged_line(
    state: TrainingState, settings: StepSettings, gap: FrozenGap | None
) -> tuple[dict[str, Any], list[str]]:
    """Returns the values of a line of `metrics.jsonl`, and warnings for the user. Collective.

    The meter of the state then starts its next window.

    Args:
        state: state of the training after its last step.
        settings: learning rate and rule of that step.
        gap: measurement on held-out rows; None if this line has none.
    """
    concentration = Concentration.measure(state.statistics, state.mesh.feature)
    values = state.meter.line(
        state.step,
        settings.learning_rate,
        state.thresholds.mean(state.mesh, state.shard.b_dec.device),
        state.underused,
        concentration,
        settings.allocation,
        settings.k,
    )
    return values | heldout_values(gap), state.alarms.check(state.step, concentration)


def shown_values(line: dict[str, Any]) -> dict[str, float | str]:
    """Returns the values of a line that the progress bar shows."""
    return {
        "loss": line["loss"],
        "L0": line["l0"],
        "dead": line["dead_share"],
        "tok_s": line["tokens_per_second"],
    }
