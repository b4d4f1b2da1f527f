"""Parquet and Arrow files that pyarrow and datasets wrote."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from distsae.errors import WrongInput
from distsae.text.tables import table_documents

TEXTS = [f"text {number} ä" for number in range(1300)] + [""]


def _parquet(path, table):
    pyarrow.parquet.write_table(table, path, row_group_size=1000)


def _stream(path, table, options=None):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=900)


def _file(path, table, options=None):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=900)


def _compressed(path, table):
    _file(path, table, pa.ipc.IpcWriteOptions(compression="zstd"))


KINDS = {"parquet": _parquet, "stream": _stream, "file": _file, "compressed": _compressed}


@pytest.fixture(params=KINDS)
def write(request, tmp_path):
    path = tmp_path / ("a.parquet" if request.param == "parquet" else "a.arrow")

    def written(table):
        KINDS[request.param](path, table)
        return path

    return written


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_every_kind_of_text_is_read_in_order(write, kind):
    texts = pa.array(TEXTS).cast(kind) if kind != pa.dictionary(pa.int32(), pa.string()) else pa.array(TEXTS, kind)
    path = write(pa.table({"number": list(range(len(TEXTS))), "body": texts}))
    assert list(table_documents(path, "body")) == TEXTS


def test_a_table_without_rows_has_no_documents(write):
    assert list(table_documents(write(pa.table({"text": pa.array([], pa.string())})), "text")) == []


def test_a_value_that_is_no_text_is_reported_with_file_and_row(write):
    path = write(pa.table({"text": [*TEXTS, None], "n": [1] * (len(TEXTS) + 1)}))
    reading = table_documents(path, "text")
    assert [next(reading) for _ in TEXTS] == TEXTS
    with pytest.raises(WrongInput, match=rf"null in .*{path.name}, row 1301"):
        next(reading)
    with pytest.raises(WrongInput, match=rf"\['text', 'n'\] in .*{path.name}; did you mean 'text'\?"):
        list(table_documents(path, "texts"))
    with pytest.raises(WrongInput, match=rf"a column of int64 in .*{path.name}"):
        list(table_documents(path, "n"))


def test_damaged_files_are_named(write):
    path = write(pa.table({"text": TEXTS}))
    content = path.read_bytes()
    for damaged in (b"", b"no such thing", content[: len(content) // 2], content[:10]):
        path.write_bytes(damaged)
        with pytest.raises(WrongInput, match=rf"{path.name} must be a whole"):
            list(table_documents(path, "text"))


def test_text_that_is_not_unicode_is_refused(tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    _stream(tmp_path / "a.arrow", pa.table({"text": bad}))
    with pytest.raises(WrongInput, match=r"a\.arrow"):
        list(table_documents(tmp_path / "a.arrow", "text"))
