"""The same column from a Parquet file and from both formats of Arrow."""

import pyarrow
import pyarrow.parquet
import pytest

from distsae.checked_files.column_table import opened_table

TABLE = pyarrow.table({"a": list(range(10)), "b": ["x"] * 10})


def _arrow(file, new):
    with pyarrow.OSFile(str(file), "wb") as sink, new(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=4)


@pytest.mark.parametrize("kind", ["parquet", "stream", "file"])
def test_a_column_comes_in_pieces(kind, tmp_path):
    file = tmp_path / ("t.parquet" if kind == "parquet" else "t.arrow")
    if kind == "parquet":
        pyarrow.parquet.write_table(TABLE, file)
    else:
        _arrow(file, pyarrow.ipc.new_stream if kind == "stream" else pyarrow.ipc.new_file)
    with opened_table(file, 4) as (schema, columns):
        assert schema.names == ["a", "b"]
        pieces = [piece.to_pylist() for piece in columns("a")]
    assert pieces == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_other_files_raise_what_pyarrow_raises(name, tmp_path):
    (tmp_path / name).write_bytes(b"text" * 30)
    with pytest.raises((pyarrow.ArrowException, OSError)), opened_table(tmp_path / name, 4):
        pass
