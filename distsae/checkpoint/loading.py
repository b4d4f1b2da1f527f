"""Loading: each rank gets the rows it asks for, whatever mesh wrote the checkpoint.

The rows that a rank asks for are intersected with the rows that each file holds, and only the intersections are copied.
Before the first tensor is changed, every file that some rank will read is checked against its digest, unless `newest`
or `verify` has just done that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch.distributed.device_mesh import DeviceMesh

from distsae.checkpoint.manifest import Manifest, TensorRecord, read_manifest
from distsae.checkpoint.ranks import Ranks
from distsae.checkpoint.state import JSON, Shard, Streamed, TensorFacts, Value, describe
from distsae.checkpoint.tensorfile import read_rows
from distsae.checkpoint.verifying import check_files
from distsae.errors import WrongInput, nearest

__all__ = ["load"]


def load(
    path: Path, tensors: Mapping[str, Value], mesh: DeviceMesh | None = None, *, checked: bool = False
) -> dict[str, JSON]:
    """Fills `tensors` in place and returns the facts that were saved with them. Collective.

    A tensor may be asked for whole or as a `Shard`, on any device, however it was saved. Tensors of the checkpoint that
    are not asked for are not read.

    Args:
        path: folder of the checkpoint.
        tensors: tensors to fill; their dtypes and global shapes must be those that were saved.
        mesh: mesh of all processes with the dims `data` and `feature`; None for one process.
        checked: whether `newest` or `verify` has just found the files sound, so that they need not be checked again.

    Raises:
        WrongInput: there is no checkpoint, or a tensor is not in it, or is in it with another shape or dtype.
        TornData: a file that is needed is missing or damaged; no tensor has been changed.
    """
    ranks = Ranks(mesh)
    wanted = describe(tensors)
    manifests: list[Manifest] = []  # this rank's own: only the names of files are exchanged

    def find_needed_files() -> set[str]:
        manifests.append(read_manifest(path))
        return _needed_files(path, manifests[0], wanted)

    needed = set().union(*ranks.together(find_needed_files))
    (manifest,) = manifests
    if not checked:
        check_files(path, {name: manifest.files[name] for name in needed}, ranks)
    ranks.together(lambda: _fill(path, manifest, tensors, wanted))
    return manifest.facts


def _needed_files(path: Path, manifest: Manifest, wanted: Mapping[str, TensorFacts]) -> set[str]:
    """Returns the names of the files that this rank will read; refuses tensors that the checkpoint cannot fill."""
    files: set[str] = set()
    for name, view in wanted.items():
        record = manifest.tensors.get(name)
        if record is None:
            raise WrongInput(
                f"tensor `{name}` must be in the checkpoint {path}; got {len(manifest.tensors)} other tensors"
                f"{nearest(name, manifest.tensors)}; resume with the config that wrote it"
            )
        for property_name, saved, asked in (("dtype", record.dtype, view.dtype), ("shape", record.shape, view.shape)):
            if saved != asked:
                raise WrongInput(
                    f"tensor `{name}` must have the {property_name} it was saved with in {path}, {_shown(saved)}; got "
                    f"{_shown(asked)}; resume with the config that wrote it"
                )
        files.update(file for file, _, _, _ in _overlaps(record, view.rows))
    return files


def _shown(value: str | tuple[int, ...]) -> str:
    return value if isinstance(value, str) else str(list(value))


def _overlaps(record: TensorRecord, rows: tuple[int, int]) -> Iterator[tuple[str, int, int, int]]:
    """Yields `(file, first, start, stop)` for each file with some of `rows`.

    Rows `first, first + 1, ...` of the tensor in `file` are rows `[start, stop)` of the tensor to fill.
    """
    for piece in record.pieces:
        start, stop = max(piece.start, rows[0]), min(piece.stop, rows[1])
        if start < stop:
            yield piece.file, start - piece.start, start - rows[0], stop - rows[0]


@torch.no_grad()
def _fill(path: Path, manifest: Manifest, tensors: Mapping[str, Value], wanted: Mapping[str, TensorFacts]) -> None:
    for name, view in wanted.items():
        value = tensors[name]
        target = value.local if isinstance(value, Shard) else value
        filled = torch.empty(target.shape, dtype=target.dtype) if isinstance(target, Streamed) else target
        for file, first, start, stop in _overlaps(manifest.tensors[name], view.rows):
            read_rows(path / file, name, first, filled[start:stop] if filled.dim() else filled)
        if isinstance(target, Streamed):
            target.write(filled)
