"""What a folder of checkpoints holds, judged by manifests and file sizes; nothing is changed, loaded or executed.

A run may save and prune at the same time. What disappears during the inspection is left out.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from distsae.checked_files import read_regular
from distsae.checkpoint.file_digest import compare_size
from distsae.checkpoint.manifest import MANIFEST_NAME, OWN_FILES, read_manifest
from distsae.checkpoint.names import LATEST, checkpoints, step_of
from distsae.checkpoint.state import DTYPES, JSON
from distsae.errors import DistsaeError, TornData

__all__ = ["Contents", "Entry", "Leftover", "Listing", "TensorSummary", "contents", "look", "look_at"]

_LONGEST_LATEST = 4096

_LEFTOVER = re.compile(r"\.(?:(?P<word>[a-z]+)-)?(?:\.replaced-)?step-\d{8,}(?:-[0-9a-f]{32})+")


@dataclass(frozen=True)
class Entry:
    """A checkpoint as its manifest and its file sizes show it; no other file is read.

    Args:
        path: folder of the checkpoint.
        step: optimizer steps done; None if neither the folder's name nor the manifest tells.
        written: time at which the manifest was written, in seconds since 1970; None if it cannot be read.
        bytes: total size of the files in the folder.
        files: number of files in the folder.
        faults: a line for each file that is missing or differs in size from the manifest, or one line for a manifest
            that cannot be read.
        unlisted: names of the files that are not part of the checkpoint; nothing reads them.
    """

    path: Path
    step: int | None
    written: float | None
    bytes: int
    files: int
    faults: tuple[str, ...]
    unlisted: tuple[str, ...]

    @property
    def looks_whole(self) -> bool:
        """Whether the manifest is sound and every file has its listed size; digests are not computed."""
        return not self.faults


@dataclass(frozen=True)
class Leftover:
    """A folder or file that a save, a pruning or a resumed run has left beside the checkpoints.

    Args:
        path: the folder, or a file that was to become `latest`.
        word: kind of leftover: `saving`, `replaced`, `removed`, `abandoned` or `latest`.
        bytes: total size of its files.
        changed: time of the last change to it, in seconds since 1970.
    """

    path: Path
    word: str
    bytes: int
    changed: float


@dataclass(frozen=True)
class Listing:
    """Everything in a folder of checkpoints.

    Args:
        folder: folder of checkpoints, `RUN/checkpoints`.
        entries: checkpoints in the folder, lowest step first.
        leftovers: leftovers in the folder, sorted by name.
        latest: name of a checkpoint that the file `latest` holds; None without such a file.
    """

    folder: Path
    entries: tuple[Entry, ...]
    leftovers: tuple[Leftover, ...]
    latest: str | None

    @property
    def newest(self) -> Entry | None:
        """The newest checkpoint that looks whole. A run resumes from it if its digests are right."""
        return next((entry for entry in reversed(self.entries) if entry.looks_whole), None)

    @property
    def disappeared(self) -> str | None:
        """The name of the checkpoint that was published last, if it is missing and so is every later one."""
        last_step = step_of(Path(self.latest or ""))
        if last_step is None or any((entry.step or 0) >= last_step for entry in self.entries):
            return None
        return self.latest

    @property
    def bytes(self) -> int:
        """Total size of the checkpoints and the leftovers."""
        return sum(entry.bytes for entry in self.entries) + sum(leftover.bytes for leftover in self.leftovers)


@dataclass(frozen=True)
class TensorSummary:
    """A tensor of a checkpoint: safetensors dtype, global shape, size in bytes, and the files that hold its rows."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds by its manifest: steps done, the facts saved with it, and its tensors, sorted by name."""

    entry: Entry
    step: int
    facts: dict[str, JSON]
    tensors: tuple[TensorSummary, ...]


def look(folder: Path) -> Listing:
    """Inspects a folder of checkpoints, which need not exist."""
    # `latest` is read first: a checkpoint that is published after the listing would seem to have disappeared.
    latest = _read_latest(folder / LATEST)
    entries = tuple(entry for entry in map(look_at, checkpoints(folder)) if entry.path.is_dir())
    listed = {entry.path for entry in entries}
    others = (path for path in sorted(folder.iterdir()) if path not in listed) if folder.is_dir() else ()
    leftovers = tuple(leftover for path in others if (leftover := _leftover(path)) is not None)
    return Listing(folder, entries, leftovers, latest)


def look_at(path: Path) -> Entry:
    """Inspects one checkpoint, sound or not."""
    names, size, _ = _measure(path)
    faults: list[str] = []
    step = step_of(path)
    listed = set(OWN_FILES)
    written: float | None = None
    try:
        manifest = read_manifest(path)
        written = (path / MANIFEST_NAME).stat().st_mtime
        step = manifest.step if step is None else step
        listed |= manifest.files.keys()
        faults = [
            fault for name in sorted(manifest.files) if (fault := compare_size(path / name, manifest.files[name]))
        ]
    except (DistsaeError, OSError) as error:
        faults.append(str(error))
        listed = set(names)  # without a manifest nothing tells which files do not belong to it
    return Entry(path, step, written, size, len(names), tuple(faults), tuple(sorted(set(names) - listed)))


def contents(path: Path) -> Contents:
    """Returns what a checkpoint holds, without reading any tensor.

    Raises:
        WrongInput: `path` is not a folder, or the checkpoint has another format version.
        TornData: the manifest is missing or damaged, or lists a dtype that no checkpoint can hold.
    """
    manifest = read_manifest(path)
    if unknown := {record.dtype for record in manifest.tensors.values()} - DTYPES.keys():
        raise TornData(f"{path / MANIFEST_NAME} has tensors of dtypes that no checkpoint can hold: {sorted(unknown)}")
    tensors = tuple(
        TensorSummary(
            name,
            record.dtype,
            record.shape,
            math.prod(record.shape) * DTYPES[record.dtype].itemsize,
            tuple(dict.fromkeys(piece.file for piece in record.pieces)),
        )
        for name, record in sorted(manifest.tensors.items())
    )
    return Contents(look_at(path), manifest.step, manifest.facts, tensors)


def _leftover(path: Path) -> Leftover | None:
    if path.name.startswith(f".{LATEST}-"):
        word = LATEST
    elif match := _LEFTOVER.fullmatch(path.name):
        word = match["word"] or "saving"
    else:
        return None
    names, size, changed = _measure(path)
    return Leftover(path, word, size, changed) if names or path.exists() else None


def _measure(path: Path) -> tuple[list[str], int, float]:
    """Returns the files under `path` (or the file `path` itself): names relative to it, total size, last change."""
    names = []
    size = 0
    changed = 0.0
    inside = [Path(folder, name) for folder, _, files in os.walk(path) for name in files]
    for file in [path, *inside]:
        try:
            facts = file.lstat()
        except OSError:
            continue
        changed = max(changed, facts.st_mtime)
        if not file.is_dir():
            names.append(str(file.relative_to(path)))
            size += facts.st_size
    return names, size, changed


def _read_latest(file: Path) -> str | None:
    try:
        return read_regular(file, _LONGEST_LATEST).decode(errors="replace").strip()
    except (OSError, TornData):
        return None
