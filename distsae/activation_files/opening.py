"""From the paths that a user gives to activations: which files they mean, and in which order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distsae.activation_files.npy_file import mapped_npy
from distsae.activation_files.table_file import TABLES, table_column, table_rows
from distsae.activation_files.tensor_file import TENSORS, id_tensor, tensor_rows
from distsae.errors import WrongInput
from distsae.store import ArrayRows, JoinedRows, RowSource
from distsae.store.mounted_path import mounted_path
from distsae.store.row_source import Activations

__all__ = ["ENDINGS", "open_activations", "read_ids"]

ENDINGS = (".npy", *TENSORS, *TABLES)
"""Endings of the files that are read."""


def open_activations(paths: Sequence[str], key: str | None = None) -> Activations:
    """Returns the activations in some files, one behind the other.

    Arrays and tensors are mapped or read in parts. Tables can be read from one end to the other only.

    Args:
        paths: files, and folders whose files are taken in the order of their names, numbers in them by size.
        key: name of the tensor or column; None if there is one that can be meant.

    Raises:
        WrongInput: a path has no such files, kinds of files are mixed, or one is not readable.
    """
    files = _files(paths)
    if files[0].suffix in TABLES:
        return table_rows(files, key)
    if key is not None and all(file.suffix == ".npy" for file in files):
        raise WrongInput(f"`key` (={key}) must be left out for npy files, which hold one array each; remove it")
    sources: list[RowSource] = []
    for file in files:
        if file.suffix == ".npy":
            sources.append(ArrayRows(mapped_npy(file), str(file)))
        else:
            sources += tensor_rows(file, key)
    return JoinedRows(sources)


def read_ids(path: str, option: str, activations: Sequence[str]) -> Tensor:
    """Returns whole numbers from a file, or from a column of the tables that hold the activations.

    Args:
        path: a file, or the name of a column.
        option: name of the option that it was given for.
        activations: the paths of the activations.

    Raises:
        WrongInput: there is neither such a file nor such a column, or it does not hold whole numbers.
    """
    files = _files(activations)
    if files[0].suffix in TABLES and not mounted_path(path, option).exists():
        return torch.from_numpy(np.concatenate(list(table_column(files, path, option))))
    (file, *others) = _files([path], option)
    if others or file.suffix in TABLES:
        raise WrongInput(f"`{option}` (={path}) must be one file of an array, or the name of a column; got other files")
    if file.suffix == ".npy":
        array = mapped_npy(file, option)
        if array.dtype.kind not in "iu":
            raise WrongInput(f"`{option}` (={path}) must hold whole numbers; got {array.dtype.name}")
        return torch.from_numpy(array.astype(np.int64))
    return id_tensor(file, option)


def _files(paths: Sequence[str], option: str = "activations") -> list[Path]:
    """Returns the files that paths mean, in order."""
    files: list[Path] = []
    for text in paths:
        path = mounted_path(text, option)
        if path.is_dir():
            inside = sorted((file for file in path.iterdir() if _is_read(file)), key=_in_order)
            if not inside:
                raise WrongInput(f"`{option}` (={text}) must have files that end in {_endings()}; got a folder without")
            files += inside
        elif not path.exists():
            raise WrongInput(f"`{option}` (={text}) must exist; got a path where nothing is; check the spelling")
        elif not _is_read(path):
            raise WrongInput(f"`{option}` (={text}) must end in one of {_endings()}; got another file")
        else:
            files.append(path)
    kinds = sorted({file.suffix for file in files})
    if not files or (len(kinds) > 1 and {*kinds} & {*TABLES}):
        raise WrongInput(
            f"`{option}` must be files of one kind; got {', '.join(kinds) or 'none'}; give those of one kind"
        )
    return files


def _is_read(path: Path) -> bool:
    return path.suffix in ENDINGS and not path.name.startswith(".")


def _endings() -> str:
    return ", ".join(ENDINGS)


def _in_order(path: Path) -> list[tuple[int, str]]:
    """Sorts `part-10` behind `part-9`: digits count as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", path.name)]
