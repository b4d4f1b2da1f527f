"""The commit record of a unit: which attempt it is committed with, and what every file of that attempt holds.

A unit exists if its record does. The record names one attempt, with the size and the crc32c of every file in it;
readers open the files that it names and never list folders.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

__all__ = ["FileChecksum", "HookSums", "UnitRecord"]


class FileChecksum(NamedTuple):
    """A file of an attempt: its size in bytes and its crc32c.

    Of a chunk file it is the crc32c of the payload, without the trailer; see `attempt_files.py`.
    """

    size: int
    crc32c: int


@dataclass(frozen=True, kw_only=True)
class HookSums:
    """Sums over the rows of a unit, in float64, of the values as they were stored.

    Args:
        x: sum of `x`, `[d_in]`.
        norm: sum of `||x||`.
        norm_squared: sum of `||x||^2`.
    """

    x: list[float]
    norm: float
    norm_squared: float


@dataclass(frozen=True, kw_only=True)
class UnitRecord:
    """One committed unit.

    Args:
        index: number of the unit.
        split: `"train"` or `"heldout"`.
        attempt: folder of the data under `data/`.
        contexts: number of contexts.
        rows: number of token rows.
        fingerprint: fingerprint of the store's attributes.
        digest: sha256 of ids and activations, in order.
        sums: sums of the activations at each hook.
        files: size and crc32c of every file, by its path inside the attempt.
    """

    index: int
    split: str
    attempt: str
    contexts: int
    rows: int
    fingerprint: str
    digest: str
    sums: dict[str, HookSums]
    files: dict[str, FileChecksum]

    def to_json(self) -> dict[str, Any]:
        """Returns the record as JSON values."""
        return {**asdict(self), "files": {name: list(record) for name, record in self.files.items()}}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> UnitRecord:
        """Returns the record that `to_json` wrote."""
        sums = {hook: HookSums(**value) for hook, value in values["sums"].items()}
        files = {name: FileChecksum(*record) for name, record in values["files"].items()}
        return cls(**{**values, "sums": sums, "files": files})
