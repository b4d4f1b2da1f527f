"""A column of a Parquet or Arrow file, a piece at a time; Arrow files are mapped instead of being loaded.

Arrow files come in two formats, stream (which `datasets` writes) and file (which is Feather), with the same ending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

__all__ = ["opened_table"]

Columns = Callable[[str], Iterator[Any]]
"""A function from the name of a column to its pieces, arrays of pyarrow in order."""


@contextmanager
def opened_table(file: Path, rows_at_once: int) -> Iterator[tuple[pyarrow.Schema, Columns]]:
    """Yields the schema of a table, and a function that reads one of its columns once.

    Args:
        file: a file that ends in `.parquet` or `.arrow`.
        rows_at_once: most rows of a piece of a Parquet file; pieces of an Arrow file are as they were written.

    Raises:
        ArrowException: the file is damaged; also raised while a column is read.
        OSError: the file cannot be read.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    if file.suffix == ".parquet":
        with ParquetFile(file) as table:
            yield (
                table.schema_arrow,
                lambda name: (batch.column(0) for batch in table.iter_batches(rows_at_once, columns=[name])),
            )
        return
    with pyarrow.memory_map(str(file)) as content:
        if content.read(6) == b"ARROW1":
            whole = pyarrow.ipc.open_file(content)
            yield (
                whole.schema,
                lambda name: (whole.get_batch(index).column(name) for index in range(whole.num_record_batches)),
            )
        else:
            content.seek(0)
            stream = pyarrow.ipc.open_stream(content)
            yield stream.schema, lambda name: (batch.column(name) for batch in stream)
