"""A sweep: which SAEs are trained side by side, each as a run of its own, over one read of the store."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distsae.errors import WrongInput
from distsae.training.config import SweepConfig, TrainConfig

__all__ = ["members", "naming"]

_OWNERS = {"d_sae": "sae", "k": "sae", "lr": "optimizer"}
"""Groups of the keys that are not at the top."""


def members(config: TrainConfig) -> dict[str, TrainConfig]:
    """Returns the run of each combination by its name, such as `k-16_seed-1`.

    Without a sweep it is the run itself, and its name is empty.

    Raises:
        WrongInput: a combination is no valid run, it is named; or `resume` is a path, which one run can have only.
    """
    swept = config.sweep.given()
    if not swept:
        return {"": config}
    if config.resume not in ("auto", "none"):
        raise WrongInput(
            f"`resume` (={config.resume}) must be auto or none in a sweep, whose members have checkpoints of their own"
        )
    if (Path(config.out).expanduser() / "config.yaml").exists():
        raise WrongInput(
            f"`out` (={config.out}) must be a folder for the runs of a sweep; it holds a run itself; choose another"
        )
    found: dict[str, TrainConfig] = {}
    for combination in itertools.product(*swept.values()):
        values = dict(zip(swept, combination, strict=True))
        name = "_".join(f"{key}-{value}" for key, value in values.items())
        with naming(name):
            found[name] = _member(config, name, values)
    return found


def _member(config: TrainConfig, name: str, values: dict[str, Any]) -> TrainConfig:
    changes: dict[str, Any] = {key: value for key, value in values.items() if key not in _OWNERS}
    for owner in ("sae", "optimizer"):
        own = {key: value for key, value in values.items() if _OWNERS.get(key) == owner}
        changes[owner] = dataclasses.replace(getattr(config, owner), **own)
    return dataclasses.replace(
        config, out=str(Path(config.out) / name), order_seed=config.seed_of_order, sweep=SweepConfig(), **changes
    )


@contextmanager
def naming(member: str) -> Iterator[None]:
    """Adds a member's name to what is wrong with it."""
    try:
        yield
    except WrongInput as error:
        raise WrongInput(f"sweep member {member}: {error}" if member else str(error)) from error
