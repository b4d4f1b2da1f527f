"""When the state of a run is saved, and which checkpoints are kept."""

from __future__ import annotations

from dataclasses import dataclass

from distsae.errors import WrongInput

__all__ = ["CheckpointConfig"]


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When training state is saved, and which checkpoints are kept.

    Args:
        every: optimizer steps between two checkpoints.
        keep_last: number of the newest checkpoints to keep.
        keep_every: checkpoints whose step is a multiple of this are kept as well; by default only the newest are.
        asynchronous: whether a copy of the state is written while training goes on. Otherwise training waits until the
            state is written, and no memory is needed for a copy.
    """

    every: int = 1000
    keep_last: int = 2
    keep_every: int | None = None
    asynchronous: bool = True

    def __post_init__(self) -> None:
        for name in ("every", "keep_last", "keep_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise WrongInput(f"`checkpoint.{name}` (={value}) must be at least 1; use 1 or more")
