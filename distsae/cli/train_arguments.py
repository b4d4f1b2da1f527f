"""The keys of `distsae train`: those of a run, and whether only to plan it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from distsae.training import TrainConfig

__all__ = ["TrainArguments"]


@dataclass(frozen=True, kw_only=True)
class TrainArguments(TrainConfig):  # noqa: D101  (it is below)
    __doc__ = f"""{(TrainConfig.__doc__ or "").rstrip()}
        dry_run: say what memory each process would take, and the largest SAE that fits, and do nothing else. Needs no
            launcher, whatever the mesh.
        memory_gb: with `dry_run`: GiB that each process has, on its GPU if there is one, to plan for another machine;
            by default what is free here.
    """

    dry_run: bool = False
    memory_gb: float | None = None

    def config(self) -> TrainConfig:
        """Returns the run."""
        return TrainConfig(**{field.name: getattr(self, field.name) for field in dataclasses.fields(TrainConfig)})
