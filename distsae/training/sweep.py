"""The members of a sweep: SAEs that are trained side by side, each as a run of its own, on one read of the store."""

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
"""Group in the config of each key that is not at its top level."""


def members(config: TrainConfig) -> dict[str, TrainConfig]:
    """Returns the config of each member by its name, such as `k-16_seed-1`: one for each combination of values.

    Without a sweep, the config itself is the only one, and its name is empty.

    Raises:
        WrongInput: a combination is not a valid run, and the message names it; `resume` is a path; or `out` is the
            folder of a single run.
    """
    swept = config.sweep.given()
    if not swept:
        return {"": config}
    if config.resume not in ("auto", "none"):
        raise WrongInput(
            f"`resume` (={config.resume}) must be auto or none in a sweep, whose members each have their own "
            "checkpoints; use auto"
        )
    if (Path(config.out) / "config.yaml").exists():
        raise WrongInput(
            f"`out` (={config.out}) must be a folder for the runs of a sweep; got the folder of a single run; choose "
            "another"
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
    """Adds the name of a member to the wrong input that the block finds."""
    try:
        yield
    except WrongInput as error:
        raise WrongInput(f"sweep member {member}: {error}" if member else str(error)) from error
