"""Members that are trained side by side: sweeps of `distsae train` that fit into memory together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from distsae.recipes.study.grid import Member
from distsae.training import SweepConfig, TrainConfig

__all__ = ["StudyJob", "jobs_of", "sweep_over"]

Values = tuple[int, ...]


@dataclass(frozen=True)
class StudyJob:
    """One training.

    Args:
        config: its config, a sweep.
        members: the members of the sweep.
    """

    config: TrainConfig
    members: tuple[Member, ...]


def jobs_of(
    base: TrainConfig, members: Sequence[Member], fits: Callable[[TrainConfig], bool], most: int | None = None
) -> list[StudyJob]:
    """Returns as few jobs as train all members of a method, each of which fits into memory.

    A sweep is made of all combinations of some values, so members that are no such block are split into several. A
    single member is a job even if it does not fit.

    Args:
        base: config of the method, whose `out` is the folder of its members.
        members: members of one method.
        fits: function that returns whether the members of a sweep fit into memory together.
        most: most members of a job; None for any number.
    """
    jobs = []
    for block in _blocks(members):
        waiting = [block]
        while waiting:
            part = waiting.pop(0)
            config = sweep_over(base, part)
            if len(part) > 1 and ((most is not None and len(part) > most) or not fits(config)):
                waiting[:0] = _halves(part)
            else:
                jobs.append(StudyJob(config, tuple(part)))
    return jobs


def sweep_over(base: TrainConfig, block: Sequence[Member]) -> TrainConfig:
    """Returns the config that trains a block of members, all combinations of their values, side by side."""
    sweep = SweepConfig(
        d_sae=tuple(dict.fromkeys(member.d_sae for member in block)),
        k=tuple(dict.fromkeys(member.k for member in block)),
        lr=tuple(dict.fromkeys(member.lr for member in block)),
        seed=tuple(dict.fromkeys(member.seed for member in block)),
    )
    sae = dataclasses.replace(base.sae, d_sae=max(sweep.d_sae), k=min(sweep.k))
    return dataclasses.replace(base, sae=sae, sweep=sweep)


def _blocks(members: Iterable[Member]) -> list[list[Member]]:
    """Returns members as blocks, in each of which every rate is combined with every k and every seed."""
    blocks = [[member] for member in members]
    for free in ("k", "lr", "seed"):
        blocks = _joined(blocks, free)
    return blocks


def _joined(blocks: list[list[Member]], free: str) -> list[list[Member]]:
    """Joins blocks that differ in one value only."""
    found: dict[object, list[Member]] = {}
    for block in blocks:
        key = tuple((m.d_sae, *(getattr(m, name) for name in ("k", "lr", "seed") if name != free)) for m in block)
        found.setdefault(frozenset(key), []).extend(block)
    return list(found.values())


def _halves(block: list[Member]) -> list[list[Member]]:
    """Splits a block along the value that it has most of."""
    values = {name: list(dict.fromkeys(getattr(m, name) for m in block)) for name in ("k", "lr", "seed")}
    name = max(values, key=lambda name: len(values[name]))
    first = values[name][: -(-len(values[name]) // 2)]
    return [[m for m in block if getattr(m, name) in first], [m for m in block if getattr(m, name) not in first]]
