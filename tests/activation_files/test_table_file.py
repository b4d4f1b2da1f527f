"""Columns of lists: fixed or not, nested or not; rows that differ, nulls and damage end in one line."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from datasets import Array2D, Dataset, Features

from distsae.activation_files.table_file import table_column, table_rows
from distsae.errors import WrongInput

ROWS = np.arange(24, dtype=np.float32).reshape(6, 4)


def _table(tmp_path, column, kind, ending=".parquet"):
    table = pyarrow.table({"acts": pyarrow.array(column, kind), "n": list(range(len(column)))})
    file = tmp_path / f"a{ending}"
    if ending == ".parquet":
        pyarrow.parquet.write_table(table, file, row_group_size=4)
    else:
        with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
    return file


KINDS = [
    pyarrow.list_(pyarrow.float32()),
    pyarrow.list_(pyarrow.float32(), 4),
    pyarrow.large_list(pyarrow.float64()),
    pyarrow.list_(pyarrow.float16()),
]


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_lists_of_numbers_are_rows(kind, ending, tmp_path):
    column = [list(row.astype(np.float16)) for row in ROWS] if "halffloat" in str(kind) else ROWS.tolist()
    file = _table(tmp_path, column, kind, ending)
    parts = list(table_rows([file, file], None))
    assert len(parts) >= 2
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate([ROWS, ROWS]))
    assert np.concatenate(list(table_column([file], "n", "token_ids"))).tolist() == [*range(6)]


def test_nested_lists_are_contexts(tmp_path):
    column = ROWS.reshape(3, 2, 4).tolist()
    file = _table(tmp_path, column, pyarrow.list_(pyarrow.list_(pyarrow.float32())))
    (part,) = table_rows([file], "acts")
    np.testing.assert_array_equal(part, ROWS.reshape(3, 2, 4))
    features = Features({"acts": Array2D((2, 4), "float32")})
    Dataset.from_dict({"acts": column}, features=features).save_to_disk(tmp_path / "d")
    (found,) = (tmp_path / "d").glob("*.arrow")
    np.testing.assert_array_equal(np.concatenate(list(table_rows([found], None))), ROWS.reshape(3, 2, 4))


@pytest.mark.parametrize(
    ("column", "key", "message"),
    [
        ([[1.0, 2.0], [1.0]], None, "`acts` must have lists of one length in .*; got 1 and 2 numbers from row 0 on"),
        ([[1.0, 2.0], None], None, "`acts` must have a value in every row of .*; got a null from row 0 on"),
        ([[1.0, None]], None, "`acts` must have a value in every row"),
        ([[1.0, 2.0]], "n2", r"`key` \(=n2\) must be a column of .*'acts', 'n'"),
    ],
)
def test_rows_that_differ(column, key, message, tmp_path):
    file = _table(tmp_path, column, pyarrow.list_(pyarrow.float32()))
    with pytest.raises(WrongInput, match=message):
        list(table_rows([file], key))


def test_columns_that_are_none(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"n": [1], "text": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(WrongInput, match=r"`key` must name the column of activations in .*; got 0 columns"):
        list(table_rows([tmp_path / "a.parquet"], None))
    with pytest.raises(WrongInput, match=r"`text` must be a column of numbers in .*; got string"):
        list(table_rows([tmp_path / "a.parquet"], "text"))
    pyarrow.parquet.write_table(pyarrow.table({"x": [1.5]}), tmp_path / "b.parquet")
    with pytest.raises(WrongInput, match=r"`token_ids` \(=x\) must be a column of whole numbers; got float64"):
        list(table_column([tmp_path / "b.parquet"], "x", "token_ids"))


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"ARROW1" + bytes(50), b"text" * 99])
def test_damaged_tables_are_one_line(content, ending, tmp_path):
    file = tmp_path / f"a{ending}"
    file.write_bytes(content)
    with pytest.raises(WrongInput, match=f"`activations` file {file} must be a whole {ending[1:]} file") as error:
        list(table_rows([file], None))
    assert "\n" not in str(error.value)
