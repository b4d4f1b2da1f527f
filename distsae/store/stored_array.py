"""Reads one array of a committed unit; every row is checked against the commit record before a caller gets it.

An array that is stored as distsae writes it (uncompressed, in chunks of a fixed number of rows, each with its crc32c;
ids in one chunk, or in such chunks as earlier versions wrote them) is read straight from its files. An array in other
chunks or codecs is read by zarr-python, after the files that hold the rows have been compared with the commit record.
Zarr replaces missing chunks by the fill value, distsae never does: a file that the record does not name, or that is
missing, is an error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distsae.errors import TornData
from distsae.store.attempt_files import (
    array_has_crc,
    check_file,
    read_chunk_file,
    read_metadata,
    read_part,
    refuse_links_to,
)
from distsae.store.buffers import part_aligned_with_file
from distsae.store.crc32c import TRAILER
from distsae.store.foreign_array import ForeignArray
from distsae.store.layout import chunk_count
from distsae.store.location import Location
from distsae.store.records import FileChecksum

__all__ = ["StoredArray"]


class StoredArray:
    """An array of an attempt; opening it checks its metadata and those of the groups that contain it.

    Args:
        folder: folder of the attempt.
        name: path of the array in the attempt, `act/HOOK` for example.
        dtype: dtype that the array must have.
        shape: shape that the array must have.
        chunk_rows: rows to read at once; of arrays of ids, all are read at once if they are in one chunk.
        files: entries of all files in the attempt's commit record.

    Raises:
        TornData: a metadata file is missing or damaged, or describes an array of another shape or dtype.
    """

    def __init__(
        self,
        folder: Location,
        name: str,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        chunk_rows: int,
        files: dict[str, FileChecksum],
    ) -> None:
        self.folder = folder
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.chunk_rows, self._files = chunk_rows, files
        self._row_bytes = dtype.itemsize * math.prod(shape[1:])
        parts = name.split("/")
        for depth in range(len(parts)):
            read_metadata(folder, "/".join([*parts[:depth], "zarr.json"]), files)
        metadata = read_metadata(folder, f"{name}/zarr.json", files)
        self.direct = self._is_direct(metadata)
        if not self.direct and not name.startswith("act/"):  # ids are read whole: they may be in one chunk
            self.chunk_rows = max(shape[0], 1)
            self.direct = self._is_direct(metadata)
            self.chunk_rows = self.chunk_rows if self.direct else chunk_rows
        self.trailing = array_has_crc(metadata)
        self._foreign = None if self.direct else self._opened(metadata)
        self._checked: set[str] = set()

    def files(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Returns the files that hold rows `[start, stop)`, by default all rows, as paths inside the attempt."""
        stop = self.shape[0] if stop is None else stop
        if self._foreign is None:
            suffix = "/0" * (len(self.shape) - 1)
            chunks = range(start // self.chunk_rows, chunk_count(stop, self.chunk_rows))
            return [f"{self.name}/c/{index}{suffix}" for index in chunks]
        return [f"{self.name}/{file}" for file in self._foreign.files(start, stop)]

    def read_chunk(self, index: int) -> np.ndarray:
        """Returns rows `[index * chunk_rows, (index + 1) * chunk_rows)`, fewer at the end of the array; writable.

        Raises:
            TornData: a file that holds some of these rows is missing or damaged; the text names it.
        """
        start = index * self.chunk_rows
        stop = min(start + self.chunk_rows, self.shape[0])
        if self._foreign is None:
            (relative,) = self.files(start, stop)
            payload = read_chunk_file(self.folder / relative, self.promised(relative))
            return _as_rows(payload, self.dtype, self.shape)[: stop - start]
        for relative in self.files(start, stop):
            self._check(relative)
        return self._foreign.read(start, stop)

    def read_rows(self, index: int, start: int, stop: int, buffer: np.ndarray) -> np.ndarray:
        """Returns rows `[start, stop)` of chunk `index`, as a part of `buffer`.

        The first time, all of the chunk is read and checked; after that only the rows that are asked for are read, if
        the array is stored as distsae writes it; of another one the whole chunk is read each time.

        Raises:
            TornData: a file that holds some of these rows is missing or damaged; the text names it.
        """
        if not self.direct:
            rows = self.read_chunk(index)[start:stop]
            copied = _as_rows(buffer[: rows.nbytes], rows.dtype, self.shape)
            copied[...] = rows
            return copied
        (relative,) = self.files(index * self.chunk_rows, index * self.chunk_rows + 1)
        file = self.folder / relative
        promised = self.promised(relative)
        row_bytes = self._row_bytes
        if relative in self._checked:
            part = part_aligned_with_file(buffer, start * row_bytes, (stop - start) * row_bytes)
            read_part(file, promised, start * row_bytes, part)
        else:
            part = read_chunk_file(file, promised, buffer)[start * row_bytes : stop * row_bytes]
            self._checked.add(relative)
        return _as_rows(part, self.dtype, self.shape)

    def read(self) -> np.ndarray:
        """Returns all rows.

        Raises:
            TornData: a file is missing or damaged; the text names it.
        """
        chunks = range(chunk_count(self.shape[0], self.chunk_rows))
        return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *map(self.read_chunk, chunks)])

    def _check(self, relative: str) -> None:
        """Compares a file with its record the first time; later only makes sure that it is there.

        A chunk or shard of another size may be asked for several times, because it holds more rows than are read at
        once.
        """
        if relative not in self._checked:
            content = check_file(self.folder / relative, self.promised(relative), self.trailing)
            if self._foreign is not None:
                self._foreign.check_expansion(relative.removeprefix(f"{self.name}/"), content)
            self._checked.add(relative)
        elif not (self.folder / relative).is_file():
            raise TornData(f"{self.folder / relative} is missing; it was there before")

    def promised(self, relative: str) -> FileChecksum:
        """Returns the entry of one of `files` in the commit record.

        Raises:
            TornData: there is no entry, or its size is not that of a chunk of this array.
        """
        if relative not in self._files:
            raise TornData(f"{self.folder / relative} is not in the commit record of its unit, so its rows are lost")
        refuse_links_to(self.folder, relative)
        size = min(self.chunk_rows, self.shape[0]) * self._row_bytes + TRAILER
        if self.direct and self._files[relative].size != size:
            raise TornData(
                f"{self.folder / relative} has {self._files[relative].size} bytes in its unit's commit record; a chunk "
                f"has {size}"
            )
        return self._files[relative]

    def _is_direct(self, metadata: dict[str, Any]) -> bool:
        return (
            metadata.get("node_type") == "array"
            and metadata.get("shape") == list(self.shape)
            and metadata.get("data_type") == self.dtype.name
            and metadata.get("chunk_grid")
            == {
                "name": "regular",
                "configuration": {"chunk_shape": [min(self.chunk_rows, self.shape[0]), *self.shape[1:]]},
            }
            and metadata.get("chunk_key_encoding") == {"name": "default", "configuration": {"separator": "/"}}
            and metadata.get("codecs") == [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
            and not metadata.get("storage_transformers")
        )

    def _opened(self, metadata: dict[str, Any]) -> ForeignArray:
        start = f"{self.name}/"
        files = {name.removeprefix(start): file for name, file in self._files.items() if name.startswith(start)}
        return ForeignArray(self.folder / self.name, metadata, self.dtype, self.shape, files)


def _as_rows(part: np.ndarray, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    return part.view(dtype).reshape(-1, *shape[1:])
