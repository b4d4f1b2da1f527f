"""The manifest: which files and tensors a checkpoint consists of, with a digest for every byte.

`manifest.json` lists every data file with its size and digest, every tensor with the files that hold its rows, and the
facts that the caller saved. `manifest.json.sha256` holds the digest of the manifest itself, in the form that
`sha256sum --check` reads, so that no byte of a checkpoint can change unnoticed.
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
    "MANIFEST_NAME",
    "OWN_FILES",
    "Manifest",
    "Piece",
    "TensorRecord",
    "facts_of",
    "read_manifest",
    "write_manifest",
]

FORMAT_VERSION = 1

MANIFEST_NAME = "manifest.json"
_DIGEST_NAME = f"{MANIFEST_NAME}.sha256"

OWN_FILES = (MANIFEST_NAME, _DIGEST_NAME)
"""Files of a checkpoint that the manifest does not list."""


@dataclass(frozen=True)
class Piece:
    """Rows `[start, stop)` of a global tensor; `file` holds exactly these rows under the tensor's name."""

    file: str
    start: int
    stop: int


@dataclass(frozen=True)
class TensorRecord:
    """A global tensor: safetensors dtype, shape, and the pieces that cover its rows, in row order."""

    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Manifest:
    """The table of contents of a checkpoint.

    Args:
        step: optimizer steps done.
        files: size and digest of each data file, by its name.
        tensors: dtype, shape and pieces of each tensor, by its name.
        facts: plain values that the caller saved with the tensors.
    """

    step: int
    files: dict[str, FileDigest]
    tensors: dict[str, TensorRecord]
    facts: dict[str, JSON]


def facts_of(path: Path) -> tuple[int, dict[str, JSON]]:
    """Returns the step of a checkpoint and the facts saved with it, without reading any tensor.

    Raises:
        WrongInput: `path` is not a folder, or the checkpoint has another format version.
        TornData: the manifest is missing or damaged.
    """
    manifest = read_manifest(path)
    return manifest.step, manifest.facts


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest and its digest into `folder`, durably."""
    content = json.dumps({"format_version": FORMAT_VERSION, **asdict(manifest)}, indent=1, allow_nan=False).encode()
    write_new(folder / MANIFEST_NAME, content)
    write_new(folder / _DIGEST_NAME, _digest_line(content))


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a checkpoint, and none of the files that it lists.

    Raises:
        WrongInput: `folder` is not a folder, or the checkpoint has another format version.
        TornData: the manifest or its digest is missing or damaged, or `manifest.json` is not a manifest.
    """
    if not folder.is_dir():
        raise WrongInput(
            f"`checkpoint` (={folder}) must be a checkpoint's folder; got a path that is not a folder; "
            f"give a folder such as RUN/checkpoints/step-00001000"
        )
    for name in OWN_FILES:
        if not (folder / name).is_file():
            raise TornData(f"{folder / name} is missing")
    content = (folder / MANIFEST_NAME).read_bytes()
    if (folder / _DIGEST_NAME).read_bytes() != _digest_line(content):
        raise TornData(f"{folder / MANIFEST_NAME} is damaged, or {_DIGEST_NAME} is: they do not agree")
    try:
        fields = json.loads(content)
        if (version := fields.pop("format_version")) != FORMAT_VERSION:
            raise WrongInput(
                f"`checkpoint` (={folder}) must have format version {FORMAT_VERSION}; got {version}; "
                f"load it with the version of distsae that wrote it"
            )
        return _parse(fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # The digest fits, so this is no accident: something else was put here and given a digest.
        raise TornData(
            f"{folder / MANIFEST_NAME} is not the manifest of a checkpoint ({type(error).__name__})"
        ) from error


def _digest_line(content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {MANIFEST_NAME}\n".encode()


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
