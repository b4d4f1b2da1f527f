"""The manifest: which files and tensors a checkpoint consists of, with a digest for every byte.

`manifest.json` lists every data file with its size and digest, every tensor with the files that hold its rows, and the
facts that the caller saved. `manifest.json.sha256` holds the digest of the manifest itself, in the form that
`sha256sum --check` reads, so that no byte of a checkpoint can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from distsae.checked_files import Between, WrongField, is_plain, parse_json, read_regular, shown, typed
from distsae.checkpoint.file_digest import FileDigest
from distsae.checkpoint.state import DTYPES, JSON
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

_MOST_BYTES = 128 << 20
_MOST_DIMENSIONS = 16

_Count = Annotated[int, Between(0)]


@dataclass(frozen=True)
class Piece:
    """Rows `[start, stop)` of a global tensor; `file` holds exactly these rows under the tensor's name."""

    file: str
    start: _Count
    stop: _Count


@dataclass(frozen=True)
class TensorRecord:
    """A global tensor: safetensors dtype, shape, and the pieces that cover its rows, in row order."""

    dtype: str
    shape: Annotated[tuple[_Count, ...], Between(0, _MOST_DIMENSIONS)]
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

    step: _Count
    files: dict[str, FileDigest]
    tensors: dict[str, TensorRecord]
    facts: dict[str, Any]


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
    content, digest = (_read(folder / name) for name in OWN_FILES)
    if digest != _digest_line(content):
        raise TornData(f"{folder / MANIFEST_NAME} is damaged, or {_DIGEST_NAME} is: they do not agree")
    # From here on the digest fits, so nothing is an accident: something else was put here and given a digest.
    fields = parse_json(content, f"{folder / MANIFEST_NAME} is not the manifest of a checkpoint: it")
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if version is not None and version != FORMAT_VERSION:
        raise WrongInput(
            f"`checkpoint` (={folder}) must have format version {FORMAT_VERSION}; got {shown(version)}; "
            f"load it with the version of distsae that wrote it"
        )
    try:
        manifest = typed(Manifest, fields)
        _check(manifest)
    except WrongField as error:
        raise TornData(f"{folder / MANIFEST_NAME} is not the manifest of a checkpoint: {error}") from None
    return manifest


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _MOST_BYTES, path.parent)
    except FileNotFoundError:
        raise TornData(f"{path} is missing") from None


def _digest_line(content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {MANIFEST_NAME}\n".encode()


def _check(manifest: Manifest) -> None:
    """Compares the tensors that a manifest declares with its files, before anybody allocates memory for them."""
    for name in manifest.files:
        if not is_plain(name) or name in OWN_FILES:
            raise WrongField(f"`files` must have plain names of data files; got {shown(name)}")
    for name, tensor in manifest.tensors.items():
        rows = tensor.shape[0] if tensor.shape else 1
        at = f"tensors.{name}"
        width = DTYPES[tensor.dtype].itemsize if tensor.dtype in DTYPES else 1
        row_bytes = math.prod(tensor.shape[1:]) * width
        end = 0
        for piece in tensor.pieces:
            if piece.file not in manifest.files:
                raise WrongField(f"`{at}.pieces` must be in files of the manifest; got {shown(piece.file)}")
            if piece.start != end or piece.stop < piece.start:
                raise WrongField(f"`{at}.pieces` must cover its rows in order; got rows from {piece.start} after {end}")
            if (piece.stop - piece.start) * row_bytes > manifest.files[piece.file].bytes:
                raise WrongField(
                    f"`{at}.pieces` must fit into their files; got {shown(piece.stop - piece.start)} rows in "
                    f"{manifest.files[piece.file].bytes:,} bytes of {shown(piece.file)}"
                )
            end = piece.stop
        if end != rows:
            raise WrongField(f"`{at}.pieces` must cover all {shown(rows)} rows; got {shown(end)}")
