"""Activations in a column of Parquet or Arrow files, row group by row group: lists of numbers, all of one length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from distsae.checked_files import shown
from distsae.checked_files.column_table import opened_table
from distsae.errors import WrongInput, nearest

__all__ = ["TABLES", "table_column", "table_rows"]

TABLES = (".parquet", ".arrow")
"""Endings of the files that are read here."""

_ROWS_AT_ONCE = 4096


def table_rows(files: Sequence[Path], key: str | None) -> Iterator[np.ndarray]:
    """Yields the activations in a column of tables, `[rows, d_in]` or `[contexts, length, d_in]` each.

    Args:
        files: the tables, in order.
        key: name of the column; None for the only one of lists of floating-point numbers.

    Raises:
        WrongInput: there is no such column, its rows differ in length, or a file is damaged.
    """
    name = key or _column_of_lists(files[0])
    for file in files:
        for row, values in _batches(file, name, "key"):
            yield _lists(values, file, row, name)


def table_column(files: Sequence[Path], name: str, option: str) -> Iterator[np.ndarray]:
    """Yields the whole numbers in a column of tables, int64; lists of them are rows of a matrix.

    Raises:
        WrongInput: there is no such column, or it does not hold whole numbers.
    """
    for file in files:
        for row, values in _batches(file, name, option):
            found = _lists(values, file, row, name)
            if found.dtype.kind not in "iu":
                raise WrongInput(f"`{option}` (={name}) must be a column of whole numbers; got {found.dtype.name}")
            yield found.astype(np.int64)


def _column_of_lists(file: Path) -> str:
    from pyarrow import types

    with _refused_if_damaged(file), opened_table(file, _ROWS_AT_ONCE) as (schema, _):
        found = []
        for field in schema:
            kind, depth = _storage(field.type), 0
            while _is_list(kind):
                kind, depth = kind.value_type, depth + 1
            if depth and types.is_floating(kind):
                found.append(field.name)
        if len(found) != 1:
            raise WrongInput(
                f"`key` must name the column of activations in {file}; got {len(found)} columns of lists of numbers "
                f"among {', '.join(map(shown, schema.names))}; choose one with `key`"
            )
        return str(found[0])


def _batches(file: Path, name: str, option: str) -> Iterator[tuple[int, Any]]:
    """Yields the values of a column, a piece at a time, each with the number of its first row."""
    with _refused_if_damaged(file), opened_table(file, _ROWS_AT_ONCE) as (schema, columns):
        if name not in schema.names:
            raise WrongInput(
                f"`{option}` (={name}) must be a column of {file}; got {', '.join(map(shown, schema.names))}"
                f"{nearest(name, schema.names)}"
            )
        row = 0
        for values in columns(name):
            yield row, values
            row += len(values)


@contextmanager
def _refused_if_damaged(file: Path) -> Iterator[None]:
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise WrongInput(
            f"`activations` file {file} must be a whole {file.suffix[1:]} file; got {reason}; write it again"
        ) from None


def _lists(values: Any, file: Path, row: int, name: str) -> np.ndarray:  # noqa: ANN401 (an array of pyarrow)
    """Returns nested lists as an array; lists of one level must all have the same length."""
    from pyarrow import types

    values = values.storage if hasattr(values, "storage") else values
    shape = [len(values)]
    while True:
        if values.null_count:
            raise WrongInput(f"`{name}` must have a value in every row of {file}; got a null from row {row} on")
        if not _is_list(values.type):
            break
        if types.is_fixed_size_list(values.type):
            length = values.type.list_size
        else:
            lengths = np.unique(values.value_lengths().to_numpy(zero_copy_only=False))
            if len(lengths) > 1:
                raise WrongInput(
                    f"`{name}` must have lists of one length in {file}; got {lengths[0]} and {lengths[1]} numbers from "
                    f"row {row} on"
                )
            length = int(lengths[0]) if len(lengths) else 0
        shape.append(length)
        values = values.flatten()
    if not (types.is_floating(values.type) or types.is_integer(values.type)):
        raise WrongInput(f"`{name}` must be a column of numbers in {file}; got {values.type}")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)


def _storage(kind: Any) -> Any:  # noqa: ANN401 (a type of pyarrow)
    return getattr(kind, "storage_type", kind)


def _is_list(kind: Any) -> bool:  # noqa: ANN401 (a type of pyarrow)
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
