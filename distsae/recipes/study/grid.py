"""From grids to members: a cell for each method, width and k; in it a member for each learning rate and seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from distsae.errors import WrongInput, nearest
from distsae.recipes.study.config import GridConfig, Rate
from distsae.recipes.study.methods import Method

__all__ = ["GridCell", "Member", "cells_of"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Member:
    """One SAE of a study.

    Args:
        method: how it is trained.
        d_sae: number of features.
        k: mean matches per token.
        lr: learning rate.
        seed: seed of the initial features.
    """

    method: Method
    d_sae: int
    k: int
    lr: Rate
    seed: int

    @property
    def name(self) -> str:
        """Its folder in the folder of its method, named as a sweep names its members."""
        return f"d_sae-{self.d_sae}_k-{self.k}_lr-{self.lr}_seed-{self.seed}"

    @property
    def path(self) -> str:
        """Its folder in the folder of all members."""
        return f"{self.method.folder}/{self.name}"


@dataclass(frozen=True)
class GridCell:
    """What one line of the table is about: a method at one width and one k.

    Args:
        method: how its members are trained.
        d_sae: number of features.
        k: mean matches per token.
        rates: learning rates to try.
        seeds: seeds of the initial features; the rates are tried with the first.
    """

    method: Method
    d_sae: int
    k: int
    rates: tuple[Rate, ...]
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name for the user."""
        return f"{self.method.name}, d_sae {self.d_sae}, k {self.k}"

    @property
    def trials(self) -> tuple[Member, ...]:
        """The members that find the best learning rate: one for each rate, at the first seed."""
        return tuple(self.member(rate, self.seeds[0]) for rate in self.rates)

    def repeats(self, rate: Rate) -> tuple[Member, ...]:
        """Returns the members at one learning rate, one for each seed."""
        return tuple(self.member(rate, seed) for seed in self.seeds)

    @property
    def size(self) -> int:
        """Number of members that are trained in the end."""
        return len(self.rates) + len(self.seeds) - 1

    def member(self, rate: Rate, seed: int) -> Member:
        """Returns the member at one learning rate and seed."""
        return Member(self.method, self.d_sae, self.k, rate, seed)


def cells_of(methods: Sequence[Method], grids: Iterable[GridConfig]) -> tuple[GridCell, ...]:
    """Returns the cells of all grids, ordered by method, then by width and k.

    A cell that several grids have is one cell with the rates and seeds of all of them.

    Raises:
        WrongInput: a grid names a method that is not in the study, or a method is in no grid.
    """
    names = [method.name for method in methods]
    found: dict[tuple[str, int, int], GridCell] = {}
    for grid in grids:
        for name in grid.methods:
            if name not in names:
                raise WrongInput(
                    f"`grid.methods` (={name}) must be the name of a method{nearest(name, names)}; known: "
                    f"{', '.join(names)}"
                )
        for method in methods:
            if grid.methods and method.name not in grid.methods:
                continue
            rates = grid.lr if method.lr is None else method.lr
            for d_sae in grid.d_sae:
                for k in grid.k:
                    key = (method.name, d_sae, k)
                    cell = found.get(key, GridCell(method, d_sae, k, (), ()))
                    found[key] = GridCell(method, d_sae, k, _union(cell.rates, rates), _union(cell.seeds, grid.seed))
    for name in names:
        if not any(key[0] == name for key in found):
            raise WrongInput(f"method {name} must be in a grid; got none that names it; add it to `methods` of a grid")
    return tuple(sorted(found.values(), key=lambda cell: (names.index(cell.method.name), cell.d_sae, cell.k)))


def _union(first: Iterable[Value], second: Iterable[Value]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys((*first, *second)))
