"""The commit record of a unit: which attempt it is committed with, and what every file of that attempt holds.

A unit exists if its record does. The record names one attempt, with the size and the crc32c of every file in it;
readers open the files that it names and never list folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, NamedTuple

from distsae.checked_files import Between, WrongField, is_plain, shown, typed
from distsae.store.norm_histogram import NormHistogram

__all__ = ["FileChecksum", "HookSums", "Split", "UnitRecord", "count_files", "merged_norms"]


Split = Literal["train", "heldout"]
"""What the rows of a unit are for."""


class FileChecksum(NamedTuple):
    """A file of an attempt: its size in bytes and its crc32c.

    Of a chunk file it is the crc32c of the payload, without the trailer; see `attempt_files.py`.
    """

    size: Annotated[int, Between(0)]
    crc32c: Annotated[int, Between(0, 2**32 - 1)]


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
        return typed(cls, values)


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

    index: Annotated[int, Between(0)]
    split: Split
    attempt: str
    contexts: Annotated[int, Between(0)]
    rows: Annotated[int, Between(0)]
    fingerprint: str
    digest: str
    sums: dict[str, HookSums]
    files: dict[str, FileChecksum]
    excluded_rows: Annotated[int, Between(0)] = 0

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
        """Returns the record that `to_json` wrote; unknown fields are ignored.

        Raises:
            WrongField: a field is missing or not what it must be, or a name leads out of the unit's folder.
        """
        record = typed(cls, values)
        unit, _, name = record.attempt.partition("/")
        if unit != f"unit-{record.index:06d}" or not is_plain(name) or "/" in name:
            raise WrongField(
                f"`attempt` must be a plain name in the folder of unit {record.index}; got {shown(record.attempt)}"
            )
        _refuse_other_names(record.files)
        return record


def _refuse_other_names(files: dict[str, FileChecksum]) -> None:
    folders: set[str] = set()
    for name in files:
        if not is_plain(name):
            raise WrongField(f"`files` must have plain names inside the attempt; got {shown(name)}")
        folder = name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    if both := folders & files.keys():
        raise WrongField(f"`files` must not have a file that is also a folder; got {shown(min(both))}")


def merged_norms(records: Sequence[UnitRecord], hook: str) -> NormHistogram | None:
    """Returns the histogram of the norms of all rows of some units; None if a unit has none, or there is no unit."""
    found = [record.sums[hook].norms for record in records]
    histograms = [norms for norms in found if norms is not None]
    return NormHistogram.merged(histograms) if histograms and len(histograms) == len(found) else None


def count_files(records: Iterable[UnitRecord]) -> tuple[int, int]:
    """Returns the number of files and of folders that some units take in a file system, their records included.

    Each takes an inode, of which a quota may allow fewer than it does bytes.
    """
    files = folders = 0
    for record in records:
        files += len(record.files) + 1
        inside = {folder for name in record.files for folder in _folders_of(name)}
        folders += len(inside) + 2  # of the unit and of its attempt
    return files, folders


def _folders_of(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]
