"""The settings of `distsae check`."""

from __future__ import annotations

from dataclasses import dataclass

from distsae.errors import WrongInput
from distsae.store.mounted_path import mounted_path

__all__ = ["CheckConfig"]


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """What is checked, and for how long.

    Args:
        folder: folder on the disk that stores and runs will be on; what the check writes there is removed at its end.
        d_in: width of the activations.
        k: mean matches per token.
        batch_tokens: token rows of a batch.
        device: device of the rates and of the step: `auto`, `cpu`, `cuda` or `cuda:1`. Processes are started on all
            GPUs if there are any.
        processes: number of processes that exchange tensors and train together; by default one for each GPU, or two on
            a machine without GPUs.
        minutes: minutes after which no further part begins; parts that did not begin are listed as skipped.
        json: file to write all figures to; by default none is written.
    """

    folder: str = "."
    d_in: int = 768
    k: int = 32
    batch_tokens: int = 4096
    device: str = "auto"
    processes: int | None = None
    minutes: float = 8.0
    json: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", str(mounted_path(self.folder, "folder")))
        if self.json is not None:
            object.__setattr__(self, "json", str(mounted_path(self.json, "json")))
        for name, least in {"d_in": 8, "k": 1, "batch_tokens": 256}.items():
            if getattr(self, name) < least:
                raise WrongInput(f"`{name}` (={getattr(self, name)}) must be at least {least}; use a larger number")
        if self.batch_tokens % 64:
            raise WrongInput(f"`batch_tokens` (={self.batch_tokens}) must be a multiple of 64; use 4096, for example")
        if self.processes is not None and self.processes < 1:
            raise WrongInput(f"`processes` (={self.processes}) must be at least 1; use a larger number")
        if not 0 < self.minutes < float("inf"):
            raise WrongInput(f"`minutes` (={self.minutes}) must be positive; use 8, for example")
