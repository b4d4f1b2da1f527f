"""A sweep: which SAEs are trained side by side, each as a run of its own, over one read of the store."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distsae.errors import WrongInput
from distsae.losses import AuxName
from distsae.model import AllocationName

if TYPE_CHECKING:
    from distsae.training.config import TrainConfig

__all__ = ["SweepConfig", "members", "naming"]

_OWNERS = {"d_sae": "sae", "k": "sae", "lr": "optimizer"}
"""Groups of the keys that are not at the top."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Values to try; one SAE is trained for each combination of them, in a folder of its own in `out`.

    Args:
        d_sae: values of `sae.d_sae`.
        k: values of `sae.k`.
        allocation: values of `allocation`.
        aux: values of `aux`.
        lr: values of `optimizer.lr`.
        seed: values of `seed`; the order of rows is that of `order_seed` for all.
    """

    d_sae: tuple[int, ...] = ()
    k: tuple[int, ...] = ()
    allocation: tuple[AllocationName, ...] = ()
    aux: tuple[AuxName, ...] = ()
    lr: tuple[float | Literal["auto"], ...] = ()
    seed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, values in self.given().items():
            if len(set(values)) < len(values):
                raise WrongInput(f"`sweep.{name}` (={[*values]}) must hold each value once; leave out the repetition")

    def given(self) -> dict[str, tuple[Any, ...]]:
        """Returns the keys that have values, with them."""
        return {name: tuple(values) for name, values in vars(self).items() if values}


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
