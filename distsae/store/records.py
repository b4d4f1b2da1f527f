"""The commit record of a unit: which attempt it is committed with, and what every file of that attempt holds.

A unit exists if its record does. The record names one attempt, with the size and the crc32c of every file in it;
readers open the files that it names and never list folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from distsae.store.norm_histogram import NormHistogram

__all__ = ["FileChecksum", "HookSums", "UnitRecord", "merged_norms"]


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
        norms: histogram of the norms; None if a version of distsae that kept none has written the unit, or if a norm is
            not finite.
    """

    x: list[float]
    norm: float
    norm_squared: float
    norms: NormHistogram | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the sums as JSON values; without `norms` if there are none, as before this field existed."""
        values = {"x": self.x, "norm": self.norm, "norm_squared": self.norm_squared}
        return values if self.norms is None else {**values, "norms": self.norms.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> HookSums:
        """Returns the sums that `to_json` wrote; unknown fields are ignored."""
        norms = NormHistogram.from_json(values["norms"]) if "norms" in values else None
        return cls(x=values["x"], norm=values["norm"], norm_squared=values["norm_squared"], norms=norms)


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
        sums: sums of the activations at each hook, without excluded rows.
        excluded_rows: number of rows of excluded tokens, which are zeros.
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
    excluded_rows: int = 0

    def to_json(self) -> dict[str, Any]:
        """Returns the record as JSON values."""
        sums = {hook: sums.to_json() for hook, sums in self.sums.items()}
        files = {name: list(record) for name, record in self.files.items()}
        values = {**{f.name: getattr(self, f.name) for f in fields(self)}, "sums": sums, "files": files}
        if not self.excluded_rows:  # as before this field existed
            del values["excluded_rows"]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> UnitRecord:
        """Returns the record that `to_json` wrote; unknown fields are ignored."""
        sums = {hook: HookSums.from_json(value) for hook, value in values["sums"].items()}
        files = {name: FileChecksum(*record) for name, record in values["files"].items()}
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values or f.name != "excluded_rows"}
        return cls(**{**known, "sums": sums, "files": files})


def merged_norms(records: Sequence[UnitRecord], hook: str) -> NormHistogram | None:
    """Returns the histogram of the norms of all rows of some units; None if a unit has none, or there is no unit."""
    found = [record.sums[hook].norms for record in records]
    histograms = [norms for norms in found if norms is not None]
    return NormHistogram.merged(histograms) if histograms and len(histograms) == len(found) else None
