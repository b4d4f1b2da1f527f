"""The facts that a run saves with the tensors of a checkpoint, checked before anything of the run is restored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from distsae.checked_files import Between, WrongField, shown, typed
from distsae.checkpoint import JSON
from distsae.errors import TornData
from distsae.losses import Underused
from distsae.training.metrics import METER_FACTS

__all__ = ["check_saved_facts"]


@dataclass(frozen=True, kw_only=True)
class SavedFacts:
    """The facts of a checkpoint that a resumed run reads; those with defaults are not in older checkpoints."""

    store_fingerprint: str
    config: dict[str, Any]
    switch_step: Annotated[int, Between(0)] | None
    underused: dict[str, float | None]
    meter: dict[str, float]
    forecasts: dict[str, dict[str, float | None]] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    init_scale: float | None = None


def check_saved_facts(facts: Mapping[str, JSON], path: Path) -> None:
    """Checks that the facts of a checkpoint are those of a run.

    Args:
        facts: facts of the checkpoint.
        path: folder of the checkpoint, for the error.

    Raises:
        TornData: a fact is missing or not what it must be; the text names it.
    """
    try:
        found = typed(SavedFacts, facts, "facts")
        numbers = {number.name for number in fields(Underused)} - {"members"}
        for name in found.underused:
            if name not in numbers:
                raise WrongField(f"`facts.underused` must have the numbers of a run; got {shown(name)}")
        for name in METER_FACTS:
            if name not in found.meter:
                raise WrongField(f"`facts.meter.{name}` is missing")
    except WrongField as error:
        raise TornData(f"{path} is not the checkpoint of a run: {error}") from None
