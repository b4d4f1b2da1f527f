"""The keys of `distsae train`: those of a run, and four that only plan one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from distsae.planning import PlannedDevice
from distsae.training import TrainConfig

__all__ = ["TrainArguments"]


@dataclass(frozen=True, kw_only=True)
class TrainArguments(TrainConfig):  # noqa: D101  (composed below)
    __doc__ = f"""{(TrainConfig.__doc__ or "").rstrip()}
        dry_run: print the memory that each process would take and the largest SAE that fits, and do nothing else. No
            launcher is needed, whatever the mesh.
        memory_gb: GiB that each process has, on its GPU if there is one; with `dry_run` only, to plan for another
            machine; by default the memory that is free here.
        device: with `dry_run` only: device to plan for, `cuda` also on a machine without a GPU, with the `memory_gb` of
            one; `auto` is a GPU if there is one here.
        check: with `dry_run` only: file of `distsae check --json` on the machine that is planned for, from which the
            time of a step and its bottleneck follow.
    """

    dry_run: bool = False
    memory_gb: float | None = None
    device: PlannedDevice = "auto"
    check: str | None = None

    def config(self) -> TrainConfig:
        """Returns the config of the run, without the keys that only plan."""
        return TrainConfig(**{field.name: getattr(self, field.name) for field in dataclasses.fields(TrainConfig)})
