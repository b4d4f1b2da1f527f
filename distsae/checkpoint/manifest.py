"""The manifest: what a checkpoint consists of, and the proof that it is all there.

`manifest.json` lists every data file with size and digest, every tensor with the files its rows lie in, and the
caller's facts. `manifest.json.sha256` holds the manifest's own digest in the form that `sha256sum --check` reads, so
that no byte of a checkpoint goes unguarded.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distsae.checkpoint.file_digest import FileDigest
from distsae.checkpoint.state import JSON
from distsae.durable import write_new
from distsae.errors import TornData, WrongInput

__all__ = [
    "FORMAT_VERSION",
    "OWN_FILES",
    "Manifest",
    "Piece",
    "TensorRecord",
    "facts_of",
    "read_manifest",
    "write_manifest",
]

FORMAT_VERSION = 1

OWN_FILES = _NAME, _GUARD = "manifest.json", "manifest.json.sha256"


@dataclass(frozen=True)
class Piece:
    """Rows `[start, stop)` of a global tensor, which are all of the tensor of the same name in `file`."""

    file: str
    start: int
    stop: int


@dataclass(frozen=True)
class TensorRecord:
    """A global tensor: its safetensors dtype, its shape and the pieces that cover its rows, in row order."""

    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's table of contents."""

    step: int
    files: dict[str, FileDigest]
    tensors: dict[str, TensorRecord]
    facts: dict[str, JSON]


def facts_of(path: Path) -> tuple[int, dict[str, JSON]]:
    """Returns the step of a checkpoint and the facts saved with it, without reading any tensor.

    Raises:
        WrongInput: `path` is no checkpoint, or of another format version.
        TornData: its manifest is missing or damaged.
    """
    manifest = read_manifest(path)
    return manifest.step, manifest.facts


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest and its digest into `folder`, durably."""
    content = json.dumps({"format_version": FORMAT_VERSION, **asdict(manifest)}, indent=1, allow_nan=False).encode()
    write_new(folder / _NAME, content)
    write_new(folder / _GUARD, _guard(content))


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a checkpoint; the files it lists are not looked at.

    Raises:
        WrongInput: `folder` does not exist, or was written by another version of the format.
        TornData: the manifest or its digest is missing or damaged, or it is something else.
    """
    if not folder.is_dir():
        raise WrongInput(
            f"`checkpoint` (={folder}) must be a checkpoint's folder; got a path that is none; "
            f"name one such as RUN/checkpoints/step-00001000"
        )
    for name in (_NAME, _GUARD):
        if not (folder / name).is_file():
            raise TornData(f"{folder / name} is missing")
    content = (folder / _NAME).read_bytes()
    if (folder / _GUARD).read_bytes() != _guard(content):
        raise TornData(f"{folder / _NAME} is damaged, or {_GUARD} is: they do not agree")
    try:
        fields = json.loads(content)
        if (version := fields.pop("format_version")) != FORMAT_VERSION:
            raise WrongInput(
                f"`checkpoint` (={folder}) must have format version {FORMAT_VERSION}; got {version}; "
                f"do load it with the distsae that wrote it"
            )
        return _parse(fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # Somebody has made a digest for it: what `write_manifest` writes can be read.
        raise TornData(f"{folder / _NAME} is not the manifest of a checkpoint ({type(error).__name__})") from error


def _guard(content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {_NAME}\n".encode()


def _parse(fields: dict[str, Any]) -> Manifest:
    return Manifest(
        step=fields["step"],
        files={name: FileDigest(**record) for name, record in fields["files"].items()},
        tensors={
            name: TensorRecord(
                dtype=record["dtype"],
                shape=tuple(record["shape"]),
                pieces=tuple(Piece(**piece) for piece in record["pieces"]),
            )
            for name, record in fields["tensors"].items()
        },
        facts=fields["facts"],
    )
