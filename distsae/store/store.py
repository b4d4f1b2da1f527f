"""Reads a sealed store: its rows chunk by chunk, their origin, and the statistics of all rows.

Only files that a commit record names are read. A file either has the size and the crc32c that the record promises, or
`TornData` is raised with the file's name (`stored_array.py`).
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distsae.errors import TornData, WrongInput, nearest
from distsae.store.attempt_files import ends_with_crc
from distsae.store.attributes import StoreAttributes
from distsae.store.buffers import size_for_any_offset
from distsae.store.commit import committed_units, read_records
from distsae.store.contents import Chunk, RowIds, Statistics
from distsae.store.crc32c import TRAILER
from distsae.store.layout import CONTEXT_DTYPE, DTYPES, ROW_ARRAYS, StorePaths, chunk_count
from distsae.store.location import Location, location
from distsae.store.norm_histogram import NormHistogram
from distsae.store.norm_summary import NormSummary, sealed_statistics
from distsae.store.opening import read_sealed
from distsae.store.own_store import write_own_store
from distsae.store.records import UnitRecord, merged_norms
from distsae.store.row_contexts import RowContext, UnitContexts
from distsae.store.row_source import Activations
from distsae.store.sealed import check_record
from distsae.store.stored_array import StoredArray
from distsae.store.unit_plan import unit_count, unit_sizes, unit_split

__all__ = ["Store"]


class Store:
    """A sealed store of token rows; use `Store.open` to get one.

    Args:
        path: folder or URL of the store.
        attributes: attributes of the store.
        units: commit records in unit order: of all units, or in a bounded store of the held-out unit only.
        dataset: content of `dataset.json`; in a merged store, its `sources` describe the stores that were merged.
    """

    def __init__(
        self, path: Location, attributes: StoreAttributes, units: tuple[UnitRecord, ...], dataset: dict[str, Any]
    ) -> None:
        self.path = path
        self.attributes = attributes
        self.units = units
        self.fingerprint: str = dataset["fingerprint"]
        self.content_digest: str = dataset["content_digest"]
        self.rows: int = dataset["rows"]
        self.heldout_rows: int = dataset["heldout_rows"]
        self.sources: tuple[dict[str, Any], ...] = tuple(dataset.get("sources", ()))
        self._statistics: dict[str, Any] = dataset["statistics"]
        self._paths = StorePaths(path)
        self.unit_count: int = dataset["units"]
        self._records = {record.index: record for record in units}
        self._arrays: dict[tuple[int, str], StoredArray] = {}
        self._sealed_norms: dict[str, Any] = dataset.get("norms", {})
        self._norms: dict[str, NormSummary | None] = {}

    @classmethod
    def open(cls, path: str | Location) -> Store:
        """Opens a sealed store.

        Raises:
            WrongInput: there is no store, it is unfinished, or it has another format.
            TornData: a record is damaged or missing.
        """
        return cls(*read_sealed(location(path)))

    @classmethod
    def write(cls, path: str | Location, activations: Activations, **options: Any) -> Store:  # noqa: ANN401
        """Makes a store of activations of your own; `write_own_store` has the options and errors."""
        root = location(path)
        write_own_store(root, activations, **options)
        return cls.open(root)

    def forget_before(self, unit: int) -> None:
        """Frees the records and arrays of train units before `unit`; they are read again if they are needed again."""
        for index in tuple(self._records):  # copies of the keys, since other threads may add some
            if index < unit:
                self._records.pop(index, None)
        for index, name in tuple(self._arrays):
            if index < unit:
                self._arrays.pop((index, name), None)

    def committed(self) -> tuple[UnitRecord, ...]:
        """Returns the commit records of the units that are in the store now: in a bounded store not all units.

        Raises:
            TornData: a record is damaged.
        """
        if self.attributes.keep_units is None:
            return self.units
        present = []
        for unit in sorted(committed_units(self.path, unit_count(self.attributes))):
            with contextlib.suppress(FileNotFoundError):  # its unit was released just now
                present.append(self.record(unit))
        return tuple(present)

    def require_hook(self, hook: str) -> None:
        """Checks that the store has `hook`.

        Raises:
            WrongInput: it does not; the hooks that it has are listed.
        """
        if hook not in self.attributes.hooks:
            raise WrongInput(
                f"`hook` (={hook}) must be in the store {self.path}; got {', '.join(self.attributes.hooks)}"
                f"{nearest(hook, self.attributes.hooks)}"
            )

    def d_in(self, hook: str) -> int:
        """Returns the width of the activations at `hook`."""
        self.require_hook(hook)
        return self.attributes.d_in[hook]

    def norms(self, hook: str) -> NormSummary | None:
        """Returns what is known of the norms of the train rows at `hook`, or None if a unit is older than histograms.

        In a bounded store the rows are those of the first window, as for `statistics`.
        """
        self.require_hook(hook)
        if hook not in self._norms:
            if self.attributes.keep_units is None:
                histogram = merged_norms([unit for unit in self.units if unit.split == "train"], hook)
            else:  # its train units come and go
                sealed = self._sealed_norms.get(hook)
                histogram = None if sealed is None else NormHistogram.from_json(sealed)
            self._norms[hook] = None if histogram is None else NormSummary(histogram)
        return self._norms[hook]

    def statistics(self, hook: str, max_norm: float | None = None) -> Statistics:
        """Returns the statistics of the train rows at `hook`: as sealed, or of the rows with norms up to `max_norm`.

        If no row has a larger norm, they are the sealed ones, bit for bit.

        Args:
            hook: hook of the store.
            max_norm: limit as `norms(hook).limit` gives it, the edge of a bin; another norm counts as the nearest edge.

        Raises:
            WrongInput: `max_norm` is given, and the store has no histograms of norms, or no sums for rows that small.
        """
        self.require_hook(hook)
        if max_norm is not None:
            norms = self.norms(hook)
            if norms is None:
                raise WrongInput(
                    f"`store` (={self.path}) must have histograms of norms, so that rows can be left out; got a store "
                    f"from before they were kept; run `distsae store measure {self.path}` once"
                )
            if norms.rows_over(max_norm):
                return norms.statistics(max_norm)
        return sealed_statistics(self._statistics[hook], self.norms(hook))

    def chunks(self, split: str = "train") -> tuple[Chunk, ...]:
        """Returns the chunks of a split (`"train"` or `"heldout"`), in unit order."""
        size = self.attributes.chunk_rows
        return tuple(
            Chunk(unit, index, min(size, rows - index * size))
            for unit, rows in self._unit_rows(split)
            for index in range(chunk_count(rows, size))
        )

    def _unit_rows(self, split: str) -> list[tuple[int, int]]:
        """Returns index and number of rows of each unit of a split; in a bounded store, of all planned units."""
        attributes = self.attributes
        if attributes.keep_units is None:
            return [(record.index, record.rows) for record in self.units if record.split == split]
        sizes = unit_sizes(attributes)
        return [
            (unit, contexts * attributes.rows_per_context)
            for unit, contexts in enumerate(sizes)
            if unit_split(attributes, unit, len(sizes)) == split
        ]

    def record(self, unit: int) -> UnitRecord:
        """Returns the commit record of a unit; in a bounded store it is read the first time.

        Raises:
            FileNotFoundError: the unit is not in the store: it has not been produced yet, or has been released.
            TornData: the record is damaged.
        """
        if unit not in self._records:
            (record,) = read_records(self.path, [unit])
            if record.fingerprint != self.fingerprint:
                raise TornData(f"{self._paths.commit(unit)} belongs to another store: its fingerprint differs")
            check_record(self._paths, self.attributes, record)
            self._records[unit] = record
        return self._records[unit]

    def chunk_file(self, hook: str, chunk: Chunk) -> str:
        """Returns the first file that holds a chunk of activations, as a path inside the unit's attempt."""
        start = chunk.index * self.attributes.chunk_rows
        return self.array(chunk.unit, f"act/{hook}").files(start, start + chunk.rows)[0]

    def read_chunk(self, hook: str, chunk: Chunk) -> Tensor:
        """Returns the rows of a chunk, `[rows, d_in]`, in the storage dtype.

        Raises:
            TornData: a file is missing or damaged; the text names it.
        """
        self.require_hook(hook)
        rows = self.array(chunk.unit, f"act/{hook}").read_chunk(chunk.index)
        return torch.from_numpy(rows).view(DTYPES[self.attributes.dtype].torch)

    def read_rows(self, hook: str, chunk: Chunk, start: int, stop: int, buffer: np.ndarray) -> Tensor:
        """Returns rows `[start, stop)` of a chunk in the storage dtype, as a part of `buffer`.

        The first time that this object reads a file, it reads and checks all of it; after that it reads only the rows
        that are asked for, if the store was written by distsae. Any number of threads may read.

        Args:
            hook: hook to read.
            chunk: chunk that contains the rows.
            start: first row, counted in the chunk.
            stop: row after the last.
            buffer: memory to read into, uint8, at least `buffer_bytes(hook)` long, best `page_aligned`.

        Raises:
            TornData: a file is missing or damaged; the text names it.
        """
        rows = self.array(chunk.unit, f"act/{hook}").read_rows(chunk.index, start, stop, buffer)
        return torch.from_numpy(rows).view(DTYPES[self.attributes.dtype].torch)

    def buffer_bytes(self, hook: str) -> int:
        """Returns the size in bytes of a buffer that can hold any chunk of `hook`."""
        rows = max(chunk.rows for split in ("train", "heldout") for chunk in self.chunks(split))
        return size_for_any_offset(rows * self.d_in(hook) * DTYPES[self.attributes.dtype].numpy.itemsize + TRAILER)

    def ends_with_crc(self, unit: int, file: str) -> bool | None:
        """Returns whether a file of a unit ends with its crc32c (`attempt_files.py`); None if it is in no array."""
        return ends_with_crc(file, {name: self.array(unit, name).trailing for name in self.arrays})

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays that every unit has."""
        return (*ROW_ARRAYS, "context_token_ids", *(f"act/{hook}" for hook in self.attributes.hooks))

    def array(self, unit: int, name: str) -> StoredArray:
        """Returns an array of a unit; its metadata are read and checked the first time.

        Raises:
            TornData: a metadata file is missing or damaged; the text names it.
        """
        if (unit, name) not in self._arrays:
            record, attributes = self.record(unit), self.attributes
            shape: tuple[int, ...] = (record.rows,)
            dtype = ROW_ARRAYS.get(name, CONTEXT_DTYPE)
            if name == "context_token_ids":
                shape = (record.contexts, attributes.context_length)
            elif name.startswith("act/"):
                dtype = DTYPES[attributes.dtype].numpy
                shape = (record.rows, attributes.d_in[name.removeprefix("act/")])
            self._arrays[unit, name] = StoredArray(
                self._paths.attempt(record.attempt), name, dtype, shape, attributes.chunk_rows, record.files
            )
        return self._arrays[unit, name]

    def read_ids(self, unit_index: int) -> RowIds:
        """Returns the origin of the rows of a unit.

        Raises:
            TornData: a file is missing or damaged; the text names it.
        """
        arrays = {name: self.array(unit_index, name).read().astype(np.int64) for name in ROW_ARRAYS}
        return RowIds(**{name: torch.from_numpy(values) for name, values in arrays.items()})

    def context_of(self, unit: int, row: int) -> RowContext:
        """Returns the text that a row of a unit comes from; `UnitContexts.read` does so for many rows.

        Raises:
            TornData: a file is missing or damaged; the text names it.
        """
        return UnitContexts.read(self, unit).of_row(row)

    def heldout_contexts(self) -> Tensor:
        """Returns the token ids of the held-out contexts, int64 `[contexts, context_length]`, BOS included.

        Raises:
            TornData: a file is missing or damaged; the text names it.
        """
        length = self.attributes.context_length
        contexts = [
            torch.from_numpy(self.array(record.index, "context_token_ids").read().astype(np.int64))
            for record in self.units
            if record.split == "heldout"
        ]
        return torch.cat([torch.empty(0, length, dtype=torch.int64), *contexts])
