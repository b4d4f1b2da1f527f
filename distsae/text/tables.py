"""Reads documents from a column of a table: a Parquet file or an Arrow file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distsae.checked_files.column_table import opened_table
from distsae.errors import WrongInput, nearest
from distsae.text.bad_records import BadRecords
from distsae.text.given_tokens import document_of
from distsae.text.text_field import wrong_text_field

if TYPE_CHECKING:
    import pyarrow

__all__ = ["table_documents"]

_ROWS_AT_ONCE = 512


def table_documents(file: Path, text_field: str, bad: BadRecords | None = None) -> Iterator[str]:
    """Yields the documents in the column `text_field` of a `.parquet` or `.arrow` file, which is read piece by piece.

    Args:
        file: the table.
        text_field: column that holds the text.
        bad: receives rows without a text; by default such a row is an error.

    Raises:
        WrongInput: there is no such column of texts, a text is null, or the file is damaged; the message names file
            and row.
    """
    from pyarrow import ArrowException

    bad = bad or BadRecords()
    try:
        number = 0
        for column in _column(file, text_field):
            for start in range(0, len(column), _ROWS_AT_ONCE):
                for value in column.slice(start, _ROWS_AT_ONCE).to_pylist():
                    text = document_of(value)
                    if text is None:
                        found = "null" if value is None else "other values"
                        text = bad.instead(wrong_text_field(text_field, found, f"{file}, row {number}"))
                    yield text
                    number += 1
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines() or ["no reason given"]
        raise WrongInput(
            f"`corpus` file {file} must be a whole {file.suffix[1:]} file; got {reason[0]}; write it again"
        ) from None


def _column(file: Path, text_field: str) -> Iterator[Any]:
    with opened_table(file, _ROWS_AT_ONCE) as (schema, columns):
        _check_column(schema, text_field, file)
        yield from columns(text_field)


def _check_column(schema: pyarrow.Schema, text_field: str, file: Path) -> None:
    if text_field not in schema.names:
        raise wrong_text_field(text_field, f"the fields {schema.names}", str(file), nearest(text_field, schema.names))
    if not _is_document(kind := schema.field(text_field).type):
        raise wrong_text_field(text_field, f"a column of {kind}", str(file))


def _is_document(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_document(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return bool(types.is_integer(kind.value_type) or types.is_struct(kind.value_type))  # token ids, messages
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
