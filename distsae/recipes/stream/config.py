"""The keys of `distsae stream`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distsae.errors import WrongInput
from distsae.store.mounted_path import mounted_path

__all__ = ["StreamConfig"]


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """Text to SAE in one command: producers fill a bounded store while a training run reads it.

    Args:
        out: folder of the store (`OUT/store`), the run (`OUT/run`), the two configs and the producers' log; what is
            there is continued.
        produce: keys of `distsae produce`, such as `model`, `corpus`, `hooks` and `max_rows`; `keep_units` is 8 unless
            it is given.
        train: keys of `distsae train`, such as `sae.d_sae`; the features are split over the trainers unless it has a
            `mesh`.
        producers: number of producer processes.
        trainers: number of training processes; by default as many as the `mesh` in `train` needs. With GPUs each
            process has one of its own, trainers the first ones.
        restarts: largest number of restarts after crashes, of the producers and of the training.
        grace: seconds that the training has to save a checkpoint and stop after a signal; then it is killed.
        dry_run: write the two configs, print the commands, and start nothing.
    """

    out: str
    produce: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    producers: int = 1
    trainers: int | None = None
    restarts: int = 5
    grace: float = 240.0
    dry_run: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", str(mounted_path(self.out, "out")))
        if Path(self.out).exists() and not Path(self.out).is_dir():
            raise WrongInput(f"`out` (={self.out}) must be a folder; got a file; choose another `out`")
        for name in ("producers", "trainers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise WrongInput(f"`{name}` (={value}) must be at least 1; use 1 or more")
