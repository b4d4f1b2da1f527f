"""An array in other chunks or codecs than distsae's own, read by zarr-python: rows, or one line with what is wrong.

zarr-python believes what metadata say. It allocates a chunk of any size that they name, and ends with errors of many
kinds where they make no sense. So sizes are compared with those of the array's files before it opens anything, and
whatever it raises then is `TornData` that names the file.
"""

from __future__ import annotations

import itertools
import lzma
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import zarr

from distsae.checked_files import Between, WrongField, shown, typed
from distsae.errors import TornData
from distsae.store.expansion import ZarrExtension, check_codecs, check_expansion
from distsae.store.layout import chunk_count
from distsae.store.location import Location
from distsae.store.object_path import ObjectPath
from distsae.store.records import FileChecksum

__all__ = ["ForeignArray"]

_UNQUESTIONED_BYTES = 256 << 20
_MOST_COMPRESSED = 20
"""Times that a chunk of more than the bytes above may be larger than the file that holds it."""

_UNQUESTIONED_CHUNKS = 100_000
"""Inner chunks of a shard that are believed: its index has 16 bytes for each."""

_MISFITS = (
    *(ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, ImportError, LookupError, MemoryError),
    *(RuntimeError, TypeError, ValueError, lzma.LZMAError, struct.error, zlib.error),
)
"""What zarr-python and its codecs raise where metadata, or bytes of a chunk, make no sense."""

_Lengths = list[Annotated[int, Between(1)]]


@dataclass(frozen=True, kw_only=True)
class ZarrArrayFacts:
    """The fields of an array's `zarr.json` that decide on how much memory is needed."""

    zarr_format: Literal[3]
    node_type: Literal["array"]
    shape: list[Annotated[int, Between(0)]]
    chunk_grid: ZarrExtension
    codecs: list[ZarrExtension | str]


class ForeignArray:
    """An array of an attempt in any chunks and codecs.

    Args:
        folder: folder of the array.
        metadata: content of its `zarr.json`, after comparison with the commit record.
        dtype: dtype that the array must have.
        shape: shape that the array must have.
        files: entries of the array's own files in the commit record, by their paths inside `folder`.

    Raises:
        TornData: the metadata are not those of such an array, or name far more than its files can hold.
    """

    def __init__(
        self,
        folder: Location,
        metadata: dict[str, Any],
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        files: Mapping[str, FileChecksum],
    ) -> None:
        self._folder = folder
        self._dtype = dtype
        self._shape = shape
        try:
            self._facts = typed(ZarrArrayFacts, metadata)
            _check_sizes(self._facts, dtype.itemsize, shape, files)
            check_codecs(self._facts.codecs)
        except WrongField as error:
            raise TornData(f"{folder}/zarr.json is not metadata of this array: {error}") from None
        with self._misfits("is not metadata that zarr-python reads"):
            store = folder.zarr_store() if isinstance(folder, ObjectPath) else folder
            self._array: Any = zarr.open_array(store, mode="r", zarr_format=3)
            found_shape, found_dtype = tuple(self._array.shape), self._array.dtype
        if found_shape != shape or found_dtype != dtype:
            raise TornData(
                f"{folder}/zarr.json describes {found_dtype} {found_shape}; the store's attributes promise "
                f"{dtype} {shape}"
            )

    def files(self, start: int, stop: int) -> list[str]:
        """Returns the files that hold rows `[start, stop)`, as paths inside the folder of the array."""
        grid = self._array.shards or self._array.chunks
        rows = range(start // grid[0], chunk_count(stop, grid[0]))
        others = [range(chunk_count(size, step)) for size, step in zip(self._shape[1:], grid[1:], strict=True)]
        encode = self._array.metadata.encode_chunk_key
        return [encode(indices) for indices in itertools.product(rows, *others)]

    def check_expansion(self, name: str, content: np.ndarray) -> None:
        """Checks that a chunk or shard does not expand to more than the metadata say, before anything expands it.

        Args:
            name: path of its file inside the folder of the array.
            content: the bytes of the file, uint8.

        Raises:
            TornData: it does, or it is not in the codecs of the array.
        """
        shape = _chunk_shape(self._facts.chunk_grid, "chunk_grid", len(self._shape))
        try:
            check_expansion(content, self._facts.codecs, shape, self._dtype.itemsize)
        except WrongField as error:
            raise TornData(f"{self._folder / name} is not a chunk of its array: {error}") from None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Returns rows `[start, stop)`, writable; their files must have been compared with the commit record.

        Raises:
            TornData: a file is not what the metadata say.
        """
        with self._misfits("does not describe its chunks"):
            rows: np.ndarray = np.require(self._array[start:stop], self._dtype, ["C", "W"])
        if rows.shape != (stop - start, *self._shape[1:]):
            raise TornData(f"{self._folder}/zarr.json does not describe its chunks: they give {rows.shape}")
        return rows

    @contextmanager
    def _misfits(self, what: str) -> Iterator[None]:
        """Turns any error of zarr-python and its codecs into one line; those of the machine pass unchanged."""
        try:
            yield
        except (*_MISFITS, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk; of a codec without
                raise
            text = f"{type(error).__name__} {shown(str(error))}"
            raise TornData(f"{self._folder}/zarr.json {what}: {text}") from error


def _check_sizes(
    facts: ZarrArrayFacts, item_bytes: int, shape: tuple[int, ...], files: Mapping[str, FileChecksum]
) -> None:
    """Compares the sizes of chunks and shards that metadata name with the files that are there.

    Raises:
        WrongField: they name far more than the files can hold.
    """
    sizes = [file.size for name, file in files.items() if name != "zarr.json"]
    most = max(_UNQUESTIONED_BYTES, _MOST_COMPRESSED * max(sizes, default=0))
    if len(facts.shape) != len(shape):
        raise WrongField(f"`shape` must have {len(shape)} lengths; got {len(facts.shape)}")
    outer = _chunk_shape(facts.chunk_grid, "chunk_grid", len(shape))
    chunks = math.prod(chunk_count(size, step) for size, step in zip(shape, outer, strict=True))
    if chunks > 2 * len(sizes) + 1000:
        raise WrongField(f"`chunk_grid` must make about as many chunks as there are files, {len(sizes)}; got {chunks}")
    codecs, at = facts.codecs, "codecs"
    while True:
        if (size := math.prod(outer) * item_bytes) > most:
            raise WrongField(f"`{at}` must be of chunks up to {most:,} bytes; got {shown(size)}")
        sharding = [found for found in codecs if isinstance(found, ZarrExtension) and found.name == "sharding_indexed"]
        if not sharding:
            return
        at += ".sharding_indexed"
        inner = _chunk_shape(sharding[0], at, len(shape))
        if (chunks := math.prod(outer) // math.prod(inner)) > max(_UNQUESTIONED_CHUNKS, max(sizes, default=0) // 16):
            raise WrongField(f"`{at}` must have an index that fits into a file; got one of {shown(chunks)} chunks")
        codecs = typed(list[ZarrExtension | str], sharding[0].configuration.get("codecs", []), f"{at}.codecs")
        outer = inner


def _chunk_shape(extension: ZarrExtension, at: str, dimensions: int) -> list[int]:
    found = typed(_Lengths, extension.configuration.get("chunk_shape"), f"{at}.configuration.chunk_shape")
    if len(found) != dimensions:
        raise WrongField(f"`{at}.configuration.chunk_shape` must have {dimensions} lengths; got {len(found)}")
    return found
