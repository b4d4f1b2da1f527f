"""The text does not depend on how its file was written, and every kind of damage is named."""

import gzip

import pyarrow
import pytest

from distsae.errors import WrongInput
from distsae.text.text_files import COMPRESSIONS, json_documents, text_document


def _write(path, content):
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = _zstd(content)
    path.write_bytes(content)
    return path


def _zstd(content):
    return pyarrow.compress(content, codec="zstd", asbytes=True)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["last line ended", "last line not ended"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "byte order mark"])
def test_lines_of_json_are_read_however_they_are_written(tmp_path, compression, end, last, mark):
    lines = ['{"text": "one"}', "", '{"text": "", "n": 1}', "  ", '{"text": "drei ä\\r\\n"}']
    content = (mark + end.join(lines) + end * last).encode()
    assert list(json_documents(_write(tmp_path / f"a.jsonl{compression}", content), "text")) == [
        "one",
        "",
        "drei ä\r\n",
    ]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_text_is_read_however_it_is_written(tmp_path, compression):
    path = tmp_path / f"a.txt{compression}"
    for content in ("a\nb\u2028c\n", "a\nb\u2028c\n".replace("\n", "\r\n"), "\ufeffa\nb\u2028c\n"):
        assert text_document(_write(path, content.encode())) == "a\nb\u2028c\n"
    assert text_document(_write(path, b"")) == ""


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_empty_files_have_no_lines(tmp_path, compression):
    path = tmp_path / f"a.jsonl{compression}"
    path.write_bytes(b"")
    assert list(json_documents(path, "text")) == []


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_other_line_separators_of_unicode_do_not_end_a_line(tmp_path, separator):
    path = _write(tmp_path / "a.jsonl", f'{{"text": "one{separator}two"}}\n{{"text": "three"}}\n'.encode())
    assert list(json_documents(path, "text")) == [f"one{separator}two", "three"]


def test_half_a_surrogate_pair_is_a_replacement_character(tmp_path):
    path = _write(tmp_path / "a.jsonl", b'{"text": "a\\ud83d\\ude00b"}\n{"text": "a\\ud83db\\ude00"}\n')
    assert list(json_documents(path, "text")) == ["a\U0001f600b", "a\ufffdb\ufffd"]


def test_several_compressed_frames_are_read_as_one_file(tmp_path):
    for name, compress in (("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", _zstd)):
        (tmp_path / name).write_bytes(compress(b'{"text": "one"}\n{"te') + compress(b'xt": "two"}\n'))
        assert list(json_documents(tmp_path / name, "text")) == ["one", "two"]


@pytest.mark.parametrize(
    ("compression", "damage"),
    [
        (".gz", "cut short"),
        (".gz", "a flipped byte"),  # pyarrow writes zstd without a checksum, so there it would be missed
        (".gz", "another file"),
        (".zst", "cut short"),
        (".zst", "another file"),
    ],
)
def test_damaged_compression_is_named(tmp_path, compression, damage):
    lines = b"".join(b'{"text": "%d"}\n' % number for number in range(1000))
    path = _write(tmp_path / f"a.jsonl{compression}", lines)
    content = bytearray(path.read_bytes())
    if damage == "cut short":
        content = content[: len(content) // 2]
    elif damage == "a flipped byte":
        content[len(content) // 2] ^= 0xFF
    else:
        content = lines
    path.write_bytes(content)
    with pytest.raises(WrongInput, match=rf"a\.jsonl{compression}"):
        list(json_documents(path, "text"))
    with pytest.raises(WrongInput, match=rf"a\.txt{compression}"):
        text_document(path.rename(tmp_path / f"a.txt{compression}"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', r"a\.jsonl .* at line 3"),
        (b'{"texts": "y"}', r"a\.jsonl, line 3; did you mean 'texts'\?"),
        (b"[1, 2]", "a list in .*, line 3"),
        (b'{"text": null}', "null in .*, line 3"),
        (b'{"text": 3}', "a int in .*, line 3"),
        (b"1" * 5000, "at line 3"),
        (b"[" * 100_000, "at line 3"),
        (b'{"text": "\xff"}', "UTF-8"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    path = _write(tmp_path / "a.jsonl", b'{"text": "one"}\n\n' + line)
    with pytest.raises(WrongInput, match=message):
        list(json_documents(path, "text"))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(WrongInput, match=r"a\.txt must be UTF-8"):
        text_document(_write(tmp_path / "a.txt", b"\xff\xfe"))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(
    ("target", "message"),
    [("itself", "Too many levels of symbolic links"), ("/proc/self/mem", "Input/output error")],
    ids=["not opened", "not read"],
)
def test_an_error_of_the_system_is_not_reported_as_bad_text(tmp_path, compression, target, message):
    """The first page of a process's memory is never mapped, so reading it fails as on a broken disk."""
    text, lines = tmp_path / f"a.txt{compression}", tmp_path / f"a.jsonl{compression}"
    for path in (text, lines):
        path.symlink_to(path if target == "itself" else target)
    with pytest.raises(WrongInput, match=rf"a\.txt\S* must be readable; got {message}"):
        text_document(text)
    with pytest.raises(WrongInput, match=rf"a\.jsonl\S* must be readable; got {message}"):
        list(json_documents(lines, "text"))
