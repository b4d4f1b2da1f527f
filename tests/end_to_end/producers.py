"""Producers as real processes, and what they left behind: every row of a store against every row of another.

Stores are compared by content and by a stranger's means: attempts that commit records name are read by zarr-python,
which knows nothing of checksums in records, so a chunk that got lost shows as rows with wrong bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zarr

ROOT = Path(__file__).parents[2]

_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM")


@dataclass(frozen=True)
class Job:
    """What `distsae produce` is told, all but `out`."""

    model: Path
    corpus: Path
    settings: dict[str, object] = field(default_factory=dict)

    def arguments(self, out: Path) -> list[str]:
        values = {
            "model": self.model,
            "corpus": self.corpus,
            "hooks": "[blocks.0.mlp_hidden, blocks.1.resid_post]",
            "context_length": 64,
            "unit_rows": 20_000,
            "chunk_rows": 2048,
            "device": "cpu",
            "out": out,
        } | self.settings
        return ["produce", *(word for name, value in values.items() for word in (f"--{name}", str(value)))]

    def start(self, out: Path, **environment: str) -> subprocess.Popen[str]:
        return start_distsae(self.arguments(out), **environment)


def start_distsae(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    """Starts the command line in a process of its own, as if by hand."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHERS)}
    return subprocess.Popen(
        [sys.executable, "-m", "distsae", *arguments],
        env={**clean, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_distsae(arguments: list[str], seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs the command line to its end; a process that does not end is killed, and the call fails."""
    process = start_distsae(arguments)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class Rows(NamedTuple):
    """Rows of committed units: which they are, int64 `[n]`, and all that is stored of each, bytes `[n]`."""

    key: np.ndarray
    content: np.ndarray


class Harm(NamedTuple):
    """Rows that are in the good store only, more than once in the other, or there with other bytes."""

    lost: int
    twice: int
    wrong: int


NO_HARM = Harm(0, 0, 0)


def committed(store: Path) -> list[Path]:
    """The commit records, in unit order."""
    return sorted((store / "commits").glob("unit-*.json"))


def read_unit(store: Path, record: Path) -> dict[str, np.ndarray]:
    """Every array of a committed unit, by name, as zarr-python reads it."""
    group = zarr.open_group(store / "data" / json.loads(record.read_bytes())["attempt"], mode="r")
    members = {name: member for name, member in group.members(max_depth=None) if isinstance(member, zarr.Array)}
    return {name: np.asarray(member[:]) for name, member in members.items()}


def read_rows(store: Path, records: list[Path] | None = None) -> Rows:
    """All rows of a store's committed units, or of some of them."""
    keys, contents = [], []
    for record in committed(store) if records is None else records:
        arrays = read_unit(store, record)
        length = arrays.pop("context_token_ids").shape[1]
        keys.append(arrays["context_id"] * length + arrays["position"])
        split = json.loads(record.read_bytes())["split"]
        columns = [np.full(len(keys[-1]), split == "heldout"), *(arrays[name] for name in sorted(arrays))]
        contents.append(_bytes_of_rows(columns))
    return Rows(np.concatenate(keys), np.concatenate(contents))


def compare(good: Rows, other: Rows) -> Harm:
    """Counts rows of `other` that are not as in `good`, whose rows are taken to be right."""
    order = np.argsort(good.key)
    keys, counts = np.unique(other.key, return_counts=True)
    place = np.searchsorted(good.key[order], other.key).clip(max=len(order) - 1)
    right = good.key[order][place] == other.key
    right &= good.content[order][place] == other.content
    return Harm(
        lost=len(np.setdiff1d(good.key, keys)),
        twice=int((counts - 1).sum()),
        wrong=int((~right).sum()),
    )


def _bytes_of_rows(columns: list[np.ndarray]) -> np.ndarray:
    parts = [np.ascontiguousarray(column).reshape(len(column), -1).view(np.uint8) for column in columns]
    whole = np.concatenate(parts, axis=1)
    return whole.view(f"V{whole.shape[1]}").reshape(-1)
