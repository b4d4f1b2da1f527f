"""What lies in a folder of checkpoints, as far as manifests and sizes tell; nothing is changed, loaded or executed.

A run may be saving and pruning meanwhile. What disappears while it is looked at is left out.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from distsae.checkpoint.file_digest import compare_size
from distsae.checkpoint.manifest import OWN_FILES, read_manifest
from distsae.checkpoint.names import LATEST, checkpoints, step_of
from distsae.checkpoint.state import DTYPES, JSON
from distsae.errors import DistsaeError, TornData

__all__ = ["Contents", "Entry", "Leftover", "Listing", "TensorSummary", "contents", "look", "look_at"]

_LEFTOVER = re.compile(r"\.(?:(?P<word>[a-z]+)-)?(?:\.replaced-)?step-\d{8,}(?:-[0-9a-f]{32})+")


@dataclass(frozen=True)
class Entry:
    """A checkpoint as it looks from outside: no file but its manifest is read.

    Args:
        path: its folder.
        step: steps done; None if neither name nor manifest says.
        written: when its manifest was written, in seconds since 1970; None without one.
        bytes: of all files in the folder.
        files: how many they are.
        faults: a line for each file that is missing or has not the size that the manifest says, or for the manifest.
        unlisted: files that are not the checkpoint's; nothing reads them.
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
        """Whether the manifest is sound and all files have their size; digests are not computed."""
        return not self.faults


@dataclass(frozen=True)
class Leftover:
    """Something beside the checkpoints that a save, a pruning or a resumed run has left.

    Args:
        path: the folder, or a file that was to become `latest`.
        word: `saving`, `replaced`, `removed`, `abandoned` or `latest`.
        bytes: of all files in it.
        changed: when the last of them was written, in seconds since 1970.
    """

    path: Path
    word: str
    bytes: int
    changed: float


@dataclass(frozen=True)
class Listing:
    """A folder of checkpoints.

    Args:
        folder: `RUN/checkpoints`.
        entries: its checkpoints, oldest step first.
        leftovers: what else lies there, by name.
        latest: the name that the file `latest` holds; None without such a file.
    """

    folder: Path
    entries: tuple[Entry, ...]
    leftovers: tuple[Leftover, ...]
    latest: str | None

    @property
    def newest(self) -> Entry | None:
        """The newest checkpoint that looks whole, which a run would resume from if its digests are right."""
        return next((entry for entry in reversed(self.entries) if entry.looks_whole), None)

    @property
    def disappeared(self) -> str | None:
        """The name of the checkpoint that was published last, if it and all later ones are gone."""
        last = step_of(Path(self.latest or ""))
        if last is None or any((entry.step or 0) >= last for entry in self.entries):
            return None
        return self.latest

    @property
    def bytes(self) -> int:
        """Of the checkpoints and of what else lies there."""
        return sum(entry.bytes for entry in self.entries) + sum(leftover.bytes for leftover in self.leftovers)


@dataclass(frozen=True)
class TensorSummary:
    """A tensor of a checkpoint: its safetensors dtype, its global shape, its bytes, and the files its rows lie in."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """What is in a checkpoint, by its manifest: steps done, the caller's facts and the tensors, by name."""

    entry: Entry
    step: int
    facts: dict[str, JSON]
    tensors: tuple[TensorSummary, ...]


def look(folder: Path) -> Listing:
    """Looks at a folder of checkpoints, which need not exist."""
    latest = _latest(folder / LATEST)  # first: what is published meanwhile would seem to have disappeared
    entries = tuple(entry for entry in map(look_at, checkpoints(folder)) if entry.path.is_dir())
    listed = {entry.path for entry in entries}
    others = (path for path in sorted(folder.iterdir()) if path not in listed) if folder.is_dir() else ()
    leftovers = tuple(leftover for path in others if (leftover := _leftover(path)) is not None)
    return Listing(folder, entries, leftovers, latest)


def look_at(path: Path) -> Entry:
    """Looks at one checkpoint, sound or not."""
    names, size, _ = _measure(path)
    faults: list[str] = []
    step, listed = step_of(path), set(OWN_FILES)
    written: float | None = None
    try:
        manifest = read_manifest(path)
        written = (path / OWN_FILES[0]).stat().st_mtime
        step = manifest.step if step is None else step
        listed |= manifest.files.keys()
        faults = [
            fault for name in sorted(manifest.files) if (fault := compare_size(path / name, manifest.files[name]))
        ]
    except (DistsaeError, OSError) as error:
        faults.append(str(error))
        listed = set(names)  # nobody knows which of them belong to it
    return Entry(path, step, written, size, len(names), tuple(faults), tuple(sorted(set(names) - listed)))


def contents(path: Path) -> Contents:
    """Returns what is in a checkpoint, without reading any tensor.

    Raises:
        WrongInput: `path` is no checkpoint, or of another format version.
        TornData: its manifest is missing or damaged.
    """
    manifest = read_manifest(path)
    if unknown := {record.dtype for record in manifest.tensors.values()} - DTYPES.keys():
        raise TornData(f"{path / OWN_FILES[0]} has tensors of dtypes that no checkpoint can hold: {sorted(unknown)}")
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
    """Returns the files under a path, or itself, by their names from there; their bytes; and the newest time of all."""
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


def _latest(file: Path) -> str | None:
    try:
        return file.read_bytes().decode(errors="replace").strip()
    except OSError:
        return None
