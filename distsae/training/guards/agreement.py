"""Refuses a job whose processes were started differently: another config, other code, or another store.

Ranks that differ raise no error of their own. They train something that no config describes, or wait for each other
forever. So all ranks exchange their facts at the start, and any difference ends all of them.
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
from distsae.nested_keys import flat_keys
from distsae.training.config import TrainConfig

__all__ = [
    "SOURCES",
    "differences",
    "facts_of_process",
    "named_ranks",
    "require_agreement",
    "require_same_kernels",
    "source_digest",
]

SOURCES = Path(__file__).parents[2]
"""Folder of the package's source files."""

_MOST_KEYS = 4
"""Largest number of keys whose values one message shows."""

_MOST_HOSTS = 8
"""Largest number of hosts that one message names for a group of ranks."""

_ADVICE = {
    "config": "start every process with the same arguments and the same config file",
    "code": "install the same versions on every machine",
    "store": "give every machine the same store",
    "kernels": "start with `kernels` triton to see what is missing on those hosts, or use `kernels` reference",
}


def require_agreement(config: TrainConfig, fingerprint: str, sources: Path = SOURCES) -> None:
    """Compares config, code and store of all processes, with one gather. Collective.

    Paths of the store may differ, because machines may have copies; its fingerprint may not.

    Args:
        config: configuration of the job, as this process received it.
        fingerprint: fingerprint of the store that this process opened.
        sources: folder of the source files that this process runs.

    Raises:
        WrongInput: on every process, if any two differ; the text names the keys, their values and the ranks.
    """
    if dist.is_initialized() and dist.get_world_size() > 1:
        _refuse_differences(facts_of_process(config, fingerprint, sources))


def require_same_kernels(name: str) -> None:
    """Compares the kernels that the processes have got, since one may lack what the others' are built with. Collective.

    Args:
        name: name of the kernels of this process.

    Raises:
        WrongInput: on every process, if any two differ.
    """
    if dist.is_initialized() and dist.get_world_size() > 1:
        _refuse_differences({"kernels:kernels": name})


def _refuse_differences(facts: dict[str, str]) -> None:
    own = (platform.node(), facts)
    gathered = [own] * dist.get_world_size()
    dist.all_gather_object(gathered, own)
    found = differences([host for host, _ in gathered], [of_rank for _, of_rank in gathered])
    if found:
        raise WrongInput(found)


def facts_of_process(config: TrainConfig, fingerprint: str, sources: Path = SOURCES) -> dict[str, str]:
    """Returns the facts that must be equal on all processes, by `KIND:NAME`.

    Args:
        config: configuration of the job.
        fingerprint: fingerprint of the store.
        sources: folder of the source files.
    """
    keys = flat_keys(config.stored() | {"sweep": dataclasses.asdict(config.sweep)})
    del keys["store"]
    code = {
        "version of distsae": __version__,
        "source files of distsae": source_digest(sources),
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


def source_digest(sources: Path) -> str:
    """Returns a digest of the names and contents of all Python files in a folder and its subfolders."""
    digest = hashlib.sha256()
    for path in sorted(sources.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(sources).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return f"sha256 {digest.hexdigest()[:16]}"


def differences(hosts: list[str], facts: list[dict[str, str]]) -> str:
    """Returns a sentence for the user on the facts that differ; empty if none does.

    Args:
        hosts: host of each rank.
        facts: facts of each rank, by `KIND:NAME`.
    """
    keys = sorted({key for of_rank in facts for key in of_rank})
    different = [key for key in keys if len({of_rank.get(key) for of_rank in facts}) > 1]
    if not different:
        return ""
    parts = []
    for key in different[:_MOST_KEYS]:
        ranks_of: dict[str, list[int]] = {}
        for rank, of_rank in enumerate(facts):
            ranks_of.setdefault(of_rank.get(key, "nothing"), []).append(rank)
        got = ", ".join(f"{value} on {named_ranks(ranks, hosts)}" for value, ranks in ranks_of.items())
        parts.append(f"`{key.split(':')[1]}` must be the same on every process; got {got}")
    if len(different) > _MOST_KEYS:
        others = [f"`{key.split(':')[1]}`" for key in different[_MOST_KEYS:]]
        parts.append(f"so must {', '.join(others)}")
    advice = [text for kind, text in _ADVICE.items() if any(key.startswith(f"{kind}:") for key in different)]
    return "; ".join([*parts, *advice])


def named_ranks(ranks: list[int], hosts: list[str]) -> str:
    """Returns ranks and their hosts in words, such as "ranks 1, 4 to 7 (hosts a, b)".

    Args:
        ranks: ranks to name, ascending.
        hosts: host of every rank of the job.
    """
    spans: list[str] = []
    # Consecutive ranks have the same difference from their index.
    for _, pairs in groupby(enumerate(ranks), lambda pair: pair[1] - pair[0]):
        consecutive = [rank for _, rank in pairs]
        if len(consecutive) > 2:
            spans.append(f"{consecutive[0]} to {consecutive[-1]}")
        else:
            spans.extend(map(str, consecutive))
    names = list(dict.fromkeys(hosts[rank] for rank in ranks))
    shown = ", ".join(names[:_MOST_HOSTS])
    if len(names) > _MOST_HOSTS:
        shown += f" and {len(names) - _MOST_HOSTS} more"
    rank_word = "ranks" if len(ranks) > 1 else "rank"
    host_word = "hosts" if len(names) > 1 else "host"
    return f"{rank_word} {', '.join(spans)} ({host_word} {shown})"
