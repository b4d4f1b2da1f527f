"""The keys of `distsae study`, and the grid of a study."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from distsae.errors import WrongInput
from distsae.store.mounted_path import mounted_path

__all__ = ["GridConfig", "Rate", "StudyConfig"]

Rate = float | Literal["auto"]
"""A learning rate, as `optimizer.lr` takes it."""


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Values to try: every method is trained with each combination of them.

    Args:
        k: mean matches per token.
        d_sae: numbers of features.
        lr: learning rates. With several, a method is trained with each of them at the first seed, and with the other
            seeds at the best of them alone.
        seed: seeds of the initial features.
        methods: names of the methods that this grid is for; by default all methods.
    """

    k: tuple[int, ...] = (32,)
    d_sae: tuple[int, ...] = (4096,)
    lr: tuple[Rate, ...] = ("auto",)
    seed: tuple[int, ...] = (0,)
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("k", "d_sae", "lr", "seed"):
            values = getattr(self, name)
            if not values:
                raise WrongInput(f"`grid.{name}` must hold at least one value; got none; leave it out, or give some")
            if len(set(values)) < len(values):
                raise WrongInput(f"`grid.{name}` (={[*values]}) must hold each value once; leave out the repetition")
        for k, d_sae in itertools.product(self.k, self.d_sae):
            if not 1 <= k <= d_sae:
                raise WrongInput(f"`grid.k` (={k}) must be between 1 and `grid.d_sae` (={d_sae}); use a smaller k")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study: methods side by side over one store, each at its own best learning rate.

    Args:
        store: sealed activation store that every member is trained on.
        out: folder of the study; a study there is continued.
        methods: methods to compare: the names `paper`, `ablations` or `peers`, or a list of such names and of methods,
            each with a `name`, any keys of `distsae train`, and an `lr` list of its own if it needs one.
        grid: values of `k`, `d_sae`, `lr` and `seed` to try, or a list of such grids, which may each name `methods`.
        common: keys of `distsae train` that all methods share, such as `steps` and `batch_tokens`.
        evaluate: keys of `distsae evaluate` that all members share, such as `max_tokens`.
        trust_remote_code: whether code that came with the model may run in evaluations, as for `distsae evaluate`.
        processes: number of processes of each training; the features are split over them unless `common` has a `mesh`.
            By default as many as the mesh needs.
        launch: config file of accelerate to launch the processes with; by default one for this machine.
        peers_python: interpreter of the environment in which the packages of the peers are installed.
        side_by_side: most members to train side by side on one read of the store; by default as many as fit into
            memory.
        memory_gb: GiB that each process has, on its GPU if there is one; by default the memory that is free here.
        keep_checkpoints: whether finished members keep their checkpoints, which are many times as large as their SAEs.
        dry_run: list the members and what they cost, and do nothing else.
    """

    store: str
    out: str
    methods: str | list[str | dict[str, Any]] = "paper"
    grid: dict[str, Any] | list[dict[str, Any]] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False
    processes: int | None = None
    launch: str | None = None
    peers_python: str | None = None
    side_by_side: int | None = None
    memory_gb: float | None = None
    keep_checkpoints: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        for name in ("processes", "side_by_side"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise WrongInput(f"`{name}` (={value}) must be at least 1; use 1 or more")
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise WrongInput(f"`memory_gb` (={self.memory_gb}) must be positive; give the GiB that each process has")
        for name in ("launch", "peers_python"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, str(mounted_path(value, name)))
                if not Path(getattr(self, name)).is_file():
                    raise WrongInput(f"`{name}` (={value}) must be a file; got no such file; check the path")
        object.__setattr__(self, "out", str(mounted_path(self.out, "out")))
        out = Path(self.out)
        if out.exists() and not out.is_dir():
            raise WrongInput(f"`out` (={self.out}) must be a folder; got a file; choose another `out`")
