import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distsae.errors import WrongInput
from distsae.text import documents, open_corpus
from distsae.text.bad_records import BadRecords, NoText

LINES = [
    b'{"text": "one"}',
    b'{"text": null}',
    b"{broken",
    b'{"txt": "x"}',
    b'{"text": "caf\xff"}',
    b"[1]",
    b'{"text": "two"}',
]


def _read(path, skip):
    return list(open_corpus(str(path), skip_bad_records=skip).documents)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_lines_without_a_text_are_left_out_and_keep_their_number(tmp_path, capsys, ending):
    file = tmp_path / f"c.jsonl{ending}"
    file.write_bytes(gzip.compress(b"\n".join(LINES)) if ending else b"\n".join(LINES))
    found = _read(file, skip=True)
    assert found == ["one", "", "", "", "", "", "two"]
    assert [isinstance(text, NoText) for text in found] == [False, True, True, True, True, True, False]
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["left out"] * 3 + ["more records are left out"]
    assert "line 2" in said[0]


@pytest.mark.parametrize("line", LINES[1:-1])
def test_the_first_ends_the_reading_otherwise_and_the_way_out_is_said(tmp_path, line):
    file = tmp_path / "c.jsonl"
    file.write_bytes(b"\n".join([LINES[0], line]))
    with pytest.raises(WrongInput, match=r"line 2.*, or --skip_bad_records$"):
        _read(file, skip=False)
    with pytest.raises(WrongInput, match="line 2") as caught:  # a command without that flag does not advise it
        list(documents(str(file)))
    assert "--skip_bad_records" not in str(caught.value)


def test_null_in_a_table(tmp_path):
    file = tmp_path / "c.parquet"
    pq.write_table(pa.table({"text": ["one", None, "two"]}), file)
    assert _read(file, skip=True) == ["one", "", "two"]
    with pytest.raises(WrongInput, match=r"row 1.*--skip_bad_records"):
        _read(file, skip=False)


def test_reading_begins_at_any_document(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": str(n)}) for n in range(5)))
    (tmp_path / "b.txt").write_text("five")
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"text": str(n)}) for n in range(6, 9)))
    whole = list(open_corpus(str(tmp_path)).documents)
    for first in range(10):
        assert list(open_corpus(str(tmp_path), first=first).documents) == whole[first:]


def test_a_record_that_is_read_again_is_said_once(capsys):
    bad = BadRecords(skip=True)
    for _ in range(3):
        assert bad.instead(WrongInput("line 2 is bad")) == ""
    assert capsys.readouterr().err == "left out: line 2 is bad\n"


def test_hidden_files_are_no_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "seen"}')
    (tmp_path / "._a.jsonl").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "a-checkpoint.jsonl").write_text('{"text": "hidden"}')
    assert list(documents(str(tmp_path))) == ["seen"]
