"""Processes of a job that were started alike: the same config, the same code, the same store.

Ranks that differ do not fail. They train something that no config describes, or wait for each other for ever. So each
says at the start what it is about to do, and a difference ends all of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import torch
import torch.distributed as dist

from distsae import __version__
from distsae.errors import WrongInput
from distsae.training.config import TrainConfig, flat_keys

__all__ = ["differences", "named_ranks", "require_agreement"]

_SOURCES = Path(__file__).parents[2]
_MOST_KEYS = 4
"""Keys that one message names with their values."""

_ADVICE = {
    "config": "start every process with the same arguments and the same config file",
    "code": "install the same versions on every machine",
    "store": "give every machine the same store",
}


def require_agreement(config: TrainConfig, fingerprint: str) -> None:
    """Compares what the processes of the job were told and are made of; one gather. Every process calls it.

    Where the store lies may differ, since machines may have copies; its fingerprint may not.

    Args:
        config: of the job, as this process was given it.
        fingerprint: of the store, as this process sees it.

    Raises:
        WrongInput: on every process, if any two differ; the keys, their values and the ranks are named.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    mine = _facts(config, fingerprint)
    everyone: list[tuple[str, dict[str, str]]] = [("", {})] * dist.get_world_size()
    dist.all_gather_object(everyone, (platform.node(), mine))
    hosts = [host for host, _ in everyone]
    found = differences(hosts, [facts for _, facts in everyone])
    if found:
        raise WrongInput(found)


def differences(hosts: list[str], facts: list[dict[str, str]]) -> str:
    """Returns a sentence on what differs, for people; empty if nothing does.

    Args:
        hosts: where each rank is.
        facts: of each rank, by `KIND:NAME`.
    """
    keys = sorted({key for each in facts for key in each})
    different = [key for key in keys if len({each.get(key) for each in facts}) > 1]
    if not different:
        return ""
    parts = []
    for key in different[:_MOST_KEYS]:
        ranks_of: dict[str, list[int]] = {}
        for rank, each in enumerate(facts):
            ranks_of.setdefault(each.get(key, "nothing"), []).append(rank)
        got = ", ".join(f"{value} on {named_ranks(ranks, hosts)}" for value, ranks in ranks_of.items())
        parts.append(f"`{key.split(':')[1]}` must be the same on every process; got {got}")
    if len(different) > _MOST_KEYS:
        rest = [f"`{key.split(':')[1]}`" for key in different[_MOST_KEYS:]]
        parts.append(f"so must {', '.join(rest)}")
    advice = [text for kind, text in _ADVICE.items() if any(key.startswith(f"{kind}:") for key in different)]
    return "; ".join([*parts, *advice])


def named_ranks(ranks: list[int], hosts: list[str]) -> str:
    """Returns such as "ranks 1, 4 to 7 (hosts a, b)".

    Args:
        ranks: ascending.
        hosts: of all ranks.
    """
    runs = [[rank for _, rank in run] for _, run in groupby(enumerate(ranks), lambda pair: pair[1] - pair[0])]
    spans = [span for run in runs for span in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    where = list(dict.fromkeys(hosts[rank] for rank in ranks))
    shown = ", ".join(where[:8]) + (f" and {len(where) - 8} more" if len(where) > 8 else "")
    return (
        f"{'ranks' if len(ranks) > 1 else 'rank'} {', '.join(spans)} ({'hosts' if len(where) > 1 else 'host'} {shown})"
    )


def _facts(config: TrainConfig, fingerprint: str) -> dict[str, str]:
    keys = flat_keys(config.stored() | {"sweep": dataclasses.asdict(config.sweep)})
    del keys["store"]
    code = {
        "version of distsae": __version__,
        "source files of distsae": _digest(),
        "version of torch": str(torch.__version__),
        "version of accelerate": version("accelerate"),
    }
    if config.engine == "deepspeed":
        code["version of deepspeed"] = version("deepspeed")
    return {
        **{f"config:{key}": str(value) for key, value in keys.items()},
        **{f"code:{key}": value for key, value in code.items()},
        "store:fingerprint": fingerprint,
    }


def _digest() -> str:
    """Returns a digest of names and contents of the package's source files."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_SOURCES).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return f"sha256 {digest.hexdigest()[:16]}"
