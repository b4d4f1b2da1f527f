"""Tensors in safetensors files, which are read in parts, and in pt files, of which nothing is ever executed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distsae.checked_files import open_regular, shown
from distsae.checked_files.safetensors_file import DTYPES, SafetensorsFile
from distsae.errors import TornData, WrongInput, nearest
from distsae.store import ArrayRows, RowSource
from distsae.store.row_source import require_rows

__all__ = ["TENSORS", "id_tensor", "tensor_rows"]

TENSORS = (".safetensors", ".pt", ".pth")
"""Endings of the files that are read here."""

_DAMAGE = (
    *(pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    MemoryError,
)
"""What torch raises for a file that it cannot load without executing something."""


class SafetensorsRows(RowSource):
    """The rows of one tensor of a safetensors file; a part is read when it is asked for."""

    def __init__(self, file: Path, name: str) -> None:
        self._file, self._name = file, name
        with SafetensorsFile(file) as opened:
            entry = opened.entries[name]
        self.dtype = DTYPES[entry.dtype]
        require_rows(entry.shape, str(self.dtype), self.dtype.is_floating_point, str(file))
        self._inner = entry.shape[1:]
        self.contexts, self.d_in = entry.shape[0], entry.shape[-1]
        self.length = 1 if len(entry.shape) == 2 else entry.shape[1]

    def take(self, contexts: np.ndarray) -> Tensor:
        """Returns the activations of some contexts; those that follow each other are read at once."""
        rows = torch.empty(len(contexts), *self._inner, dtype=self.dtype)
        breaks = np.flatnonzero(np.diff(contexts) != 1) + 1
        with SafetensorsFile(self._file) as opened:
            for part in np.split(np.arange(len(contexts)), breaks):
                if len(part):
                    opened.read_rows(self._name, int(contexts[part[0]]), rows[part[0] : part[-1] + 1])
        return rows.reshape(len(contexts), self.length, self.d_in)


def tensor_rows(file: Path, key: str | None) -> list[RowSource]:
    """Returns the tensors of a file that hold activations.

    A pt file may hold a tensor, a list of tensors, or tensors by name.

    Args:
        file: a safetensors or pt file.
        key: name of the tensor; None if there is only one that can be meant.

    Raises:
        WrongInput: the file is damaged, needs code to be loaded, or has no such tensor.
    """
    if file.suffix == ".safetensors":
        with _refused_if_damaged(file, "activations"):
            return [SafetensorsRows(file, _chosen(_dtypes(file), key, file))]
    found = _loaded(file, "activations")
    if isinstance(found, Mapping):
        tensors = _tensors(found)
        found = tensors[_chosen({name: tensor.dtype for name, tensor in tensors.items()}, key, file)]
    elif key is not None:
        raise WrongInput(f"`key` (={key}) must be left out for {file}, which holds tensors without names; remove it")
    parts = found if isinstance(found, list | tuple) else [found]
    if not all(isinstance(part, Tensor) for part in parts):
        raise WrongInput(f"`activations` file {file} must hold tensors; got {shown(type(found).__name__)}")
    return [ArrayRows(part, str(file)) for part in parts]


def id_tensor(file: Path, option: str) -> Tensor:
    """Returns the only tensor of whole numbers in a file.

    Args:
        file: a safetensors or pt file.
        option: name of the option that the file was given for.

    Raises:
        WrongInput: the file is damaged, needs code to be loaded, or has no such tensor or several.
    """
    if file.suffix == ".safetensors":
        with _refused_if_damaged(file, option), SafetensorsFile(file) as opened:
            found: Any = {name: opened.tensor(name) for name in opened.entries}
    else:
        found = _loaded(file, option)
    tensors = _tensors(found) if isinstance(found, Mapping) else {"": found}
    whole = [one for one in tensors.values() if isinstance(one, Tensor) and not one.is_floating_point()]
    if len(whole) != 1:
        raise WrongInput(
            f"`{option}` file {file} must have one tensor of whole numbers; got {len(whole)}; give a file with one"
        )
    return whole[0]


def _dtypes(file: Path) -> dict[str, torch.dtype]:
    with SafetensorsFile(file) as opened:
        return {name: DTYPES[entry.dtype] for name, entry in opened.entries.items()}


def _tensors(found: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


@contextmanager
def _refused_if_damaged(file: Path, option: str) -> Iterator[None]:
    try:
        yield
    except TornData as error:
        raise WrongInput(f"`{option}` file {file} must be a whole safetensors file; got: {error}") from None


def _loaded(file: Path, option: str) -> Any:  # noqa: ANN401 (whatever the file holds)
    os.close(open_regular(file, error=WrongInput))  # a pipe or a device would hang torch

    try:
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files from before torch 1.6 cannot be mapped
            return torch.load(file, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WrongInput(
            f"`{option}` file {file} must hold tensors that load without code; got: {shown(reason)}; write it again "
            "with torch.save of a tensor"
        ) from None


def _chosen(dtypes: Mapping[str, torch.dtype], key: str | None, file: Path) -> str:
    if key is not None:
        if key not in dtypes:
            raise WrongInput(
                f"`key` (={key}) must be a tensor of {file}; got {', '.join(map(shown, dtypes)) or 'none'}"
                f"{nearest(key, dtypes)}"
            )
        return key
    fitting = [name for name, dtype in dtypes.items() if dtype.is_floating_point]
    if len(fitting) != 1:
        raise WrongInput(
            f"`key` must name the tensor of activations in {file}; got {len(fitting)} of floating-point numbers "
            f"({', '.join(map(shown, fitting)) or 'none'}); choose one with `key`"
        )
    return fitting[0]
