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
        train: keys of `distsae train`, such as `sae.d_sae`; the features are split over the trainers of a machine, and
            the tokens over machines, unless it has a `mesh`.
        producers: number of producer processes on each machine.
        trainers: number of training processes on each machine; by default as many as the `mesh` in `train` needs. With
            GPUs each process has one of its own, trainers the first ones.
        machines: number of machines. Each runs the same command with its own `machine_rank`, and all see `out`.
        machine_rank: rank of this machine, from 0.
        main_process_ip: address of the machine with rank 0; needed if there are several.
        main_process_port: port there at which the trainers meet.
        restarts: largest number of restarts after crashes, of the producers and of the training.
        grace: seconds that the training has to save a checkpoint and stop after a signal; then it is killed.
        dry_run: write the two configs, print the commands, and start nothing.
    """

    out: str
    produce: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    producers: int = 1
    trainers: int | None = None
    machines: int = 1
    machine_rank: int = 0
    main_process_ip: str | None = None
    main_process_port: int = 29500
    restarts: int = 5
    grace: float = 240.0
    dry_run: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", str(mounted_path(self.out, "out")))
        if Path(self.out).exists() and not Path(self.out).is_dir():
            raise WrongInput(f"`out` (={self.out}) must be a folder; got a file; choose another `out`")
        for name in ("producers", "trainers", "machines"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise WrongInput(f"`{name}` (={value}) must be at least 1; use 1 or more")
        if not 0 <= self.machine_rank < self.machines:
            raise WrongInput(
                f"`machine_rank` (={self.machine_rank}) must be from 0 to {self.machines - 1} with `machines` "
                f"(={self.machines}); give each machine a rank of its own"
            )
        if not 0 < self.main_process_port < 1 << 16:
            raise WrongInput(f"`main_process_port` (={self.main_process_port}) must be from 1 to 65535; use 29500")
        if (self.machines > 1) != (self.main_process_ip is not None):
            raise WrongInput(
                f"`main_process_ip` (={self.main_process_ip}) must be given with several `machines`, and only then; "
                f"got {self.machines}; use the address of the machine with rank 0"
            )

    @property
    def log(self) -> Path:
        """The file that this machine's producers write to."""
        return Path(self.out) / ("producers.log" if self.machines == 1 else f"producers-{self.machine_rank}.log")
