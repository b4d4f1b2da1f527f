"""Activations of the user's own, as a store takes them: contexts of rows, read from wherever they are.

Activations come as one array or several, in memory or mapped from a file, or as an iterator of arrays that can be read
once. An array `[contexts, length, d_in]` has the rows of contexts; in an array `[rows, d_in]` every row is a context of
one token.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distsae.checked_files import shown
from distsae.errors import WrongInput
from distsae.store.location import Location

__all__ = ["Activations", "ArrayRows", "JoinedRows", "RowSource", "as_source", "require_rows", "spooled"]


class RowSource(ABC):
    """Activations of `contexts` contexts, each of `length` rows.

    Attributes:
        contexts: number of contexts.
        length: rows of a context.
        d_in: width of a row.
        dtype: dtype of the activations.
    """

    contexts: int
    length: int
    d_in: int
    dtype: torch.dtype

    @abstractmethod
    def take(self, contexts: np.ndarray) -> Tensor:
        """Returns the activations of some contexts, `[len(contexts), length, d_in]`, on the CPU.

        Args:
            contexts: numbers of the contexts, int64, ascending.
        """

    def prefix(self) -> tuple[int, int, torch.dtype]:
        """Returns what sources that are joined must have in common."""
        return self.length, self.d_in, self.dtype


Activations = RowSource | np.ndarray | Tensor | Iterable[np.ndarray | Tensor]
"""Activations in any form that is understood."""


def require_rows(shape: Sequence[int], dtype: str, is_float: bool, name: str = "activations") -> None:
    """Checks that an array can be rows of activations.

    Args:
        shape: its shape.
        dtype: name of its dtype.
        is_float: whether that is one of floating-point numbers.
        name: what the user gave it as, for the error.

    Raises:
        WrongInput: it cannot be.
    """
    if len(shape) not in (2, 3) or 0 in shape:
        found = "x".join(map(str, shape))
        raise WrongInput(f"`{name}` must have the shape [rows, d_in] or [contexts, length, d_in]; got [{found}]")
    if not is_float:
        raise WrongInput(f"`{name}` must hold floating-point numbers; got {shown(dtype.removeprefix('torch.'))}")


class ArrayRows(RowSource):
    """The rows of one array or tensor.

    Args:
        array: floating-point numbers, `[rows, d_in]` or `[contexts, length, d_in]`.
        name: what the user gave it as, for errors.

    Raises:
        WrongInput: it has another shape, is empty, or does not hold floating-point numbers.
    """

    def __init__(self, array: np.ndarray | Tensor, name: str = "activations") -> None:
        if isinstance(array, Tensor):
            require_rows(array.shape, str(array.dtype), array.is_floating_point(), name)
            array = array.detach()
        else:
            known = array.dtype.newbyteorder("=") in (np.float16, np.float32, np.float64)
            require_rows(array.shape, str(array.dtype), known, name)
        self._array = array if array.ndim == 3 else array[:, None]
        self.contexts, self.length = int(self._array.shape[0]), int(self._array.shape[1])
        self.d_in = int(self._array.shape[2])
        self.dtype = self._part(slice(0, 0)).dtype

    def take(self, contexts: np.ndarray) -> Tensor:
        """Returns the activations of some contexts."""
        first, last = (int(contexts[0]), int(contexts[-1])) if len(contexts) else (0, -1)
        if last - first + 1 == len(contexts):  # one piece, which a mapped file reads at once
            return self._part(slice(first, last + 1))
        return self._part(contexts)

    def _part(self, wanted: slice | np.ndarray) -> Tensor:
        if isinstance(self._array, Tensor):
            index = wanted if isinstance(wanted, slice) else torch.from_numpy(wanted).to(self._array.device)
            return self._array[index].cpu()
        part = np.array(self._array[wanted])  # a copy: a mapped file is read here, and not again later
        return torch.from_numpy(part.astype(part.dtype.newbyteorder("="), copy=False))


class JoinedRows(RowSource):
    """The rows of several sources, one behind the other.

    Raises:
        WrongInput: there is none, or they differ in length, width or dtype.
    """

    def __init__(self, sources: Sequence[RowSource]) -> None:
        if not sources:
            raise WrongInput("`activations` must have rows; got none")
        for number, source in enumerate(sources):
            if source.prefix() != sources[0].prefix():
                first, other = ([*map(str, each.prefix())] for each in (sources[0], source))
                raise WrongInput(
                    "`activations` must have the same length, width and dtype in all parts; got "
                    f"{', '.join(first)} in the first and {', '.join(other)} in part {number}"
                )
        self._sources = sources
        self._starts = np.cumsum([0, *(source.contexts for source in sources)])
        self.contexts = int(self._starts[-1])
        self.length, self.d_in = sources[0].length, sources[0].d_in
        self.dtype = sources[0].dtype

    def take(self, contexts: np.ndarray) -> Tensor:
        """Returns the activations of some contexts."""
        bounds = np.searchsorted(contexts, self._starts)
        parts = [
            source.take(contexts[bounds[number] : bounds[number + 1]] - self._starts[number])
            for number, source in enumerate(self._sources)
            if bounds[number] < bounds[number + 1]
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


@contextmanager
def as_source(activations: Activations, root: Location) -> Iterator[RowSource]:
    """Yields activations of any form as a source; an iterator is written to a temporary file beside `root` first."""
    if isinstance(activations, RowSource):
        yield activations
    elif isinstance(activations, np.ndarray | Tensor):
        yield ArrayRows(activations)
    else:
        folder = root.parent if isinstance(root, Path) else Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        with spooled(activations, folder) as source:
            yield source


@contextmanager
def spooled(parts: Iterable[np.ndarray | Tensor], folder: Path) -> Iterator[RowSource]:
    """Writes activations that can be read only once to a temporary file, and yields them as a source.

    How many rows there are must be known before a store is begun, so they are kept on the disk until it is finished.

    Args:
        parts: arrays of the same length, width and dtype.
        folder: folder of the temporary file, which is removed at the end of the block, and after a kill by the system.

    Raises:
        WrongInput: there is no part, or they differ.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        first: ArrayRows | None = None
        contexts = 0
        for part in parts:
            source = ArrayRows(part)
            first = first or source
            JoinedRows([first, source])  # refuses a part that differs
            contexts += source.contexts
            rows = source.take(np.arange(source.contexts)).contiguous()
            file.write(rows.view(torch.uint8).numpy().data)
        if first is None:
            raise WrongInput("`activations` must have rows; got an iterator that gives none")
        file.flush()
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[first.dtype.itemsize]
        shape = (contexts, first.length, first.d_in)
        mapped = np.memmap(file, mode="c", shape=shape, dtype=torch.empty(0, dtype=bits).numpy().dtype)
        yield ArrayRows(torch.from_numpy(mapped).view(first.dtype))
