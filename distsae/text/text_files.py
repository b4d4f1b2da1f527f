"""Reads documents from plain files: one JSON object a line, or one text a file, compressed or not.

The text does not depend on how a file was written: a byte order mark is dropped, and every line ends in a newline
character alone. Other characters that Unicode calls line separators do not end a line of JSON.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from distsae.errors import WrongInput
from distsae.text.bad_records import BadRecords
from distsae.text.given_tokens import without_half_pairs
from distsae.text.text_field import text_of

__all__ = ["COMPRESSIONS", "json_documents", "text_document"]

COMPRESSIONS = ("", ".gz", ".zst")
"""Endings that may follow `.jsonl` and `.txt`."""

_DAMAGE = (UnicodeDecodeError, EOFError, zlib.error, OSError)  # gzip.BadGzipFile and pyarrow's errors are OSErrors


def text_document(file: Path) -> str:
    """Returns the content of `file` as one document.

    Raises:
        WrongInput: the file is not UTF-8 text, is damaged, or cannot be read.
    """
    try:
        with _opened(file) as stream:
            return stream.read()
    except _DAMAGE as error:
        raise _unreadable(file, error) from None


def json_documents(file: Path, text_field: str, bad: BadRecords | None = None) -> Iterator[str]:
    """Yields the text of each line of `file` and skips blank lines; one line is in memory at a time.

    Half of a surrogate pair, which JSON can express but UTF-8 cannot, becomes U+FFFD.

    Args:
        file: a file of JSON objects, one a line.
        text_field: field that holds the text.
        bad: receives lines without a text; by default such a line is an error.

    Raises:
        WrongInput: a line is not a JSON object with that field in UTF-8, or the file is damaged or cannot be read; the
            message names file and line.
    """
    bad = bad or BadRecords()
    number = 0
    try:
        with _opened(file, errors="surrogateescape") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        record = _parsed(_in_utf8(line, file, number), file, number)
                        text = text_of(record, text_field, f"{file}, line {number}")
                    except WrongInput as error:
                        text = bad.instead(error)
                    yield without_half_pairs(text)
    except _DAMAGE as error:
        raise _unreadable(file, error) from None


def _opened(file: Path, errors: str = "strict") -> io.TextIOWrapper:
    if file.name.endswith(".gz"):
        content = cast(IO[bytes], gzip.GzipFile(file))
    elif file.name.endswith(".zst"):
        import pyarrow

        content = cast(IO[bytes], pyarrow.CompressedInputStream(pyarrow.OSFile(str(file)), "zstd"))
    else:
        content = file.open("rb")
    return io.TextIOWrapper(content, encoding="utf-8-sig", errors=errors)


def _in_utf8(line: str, file: Path, number: int) -> str:
    """Returns the line, unless a byte of it was none of UTF-8 and was read as half of a surrogate pair."""
    try:
        line.encode()
    except UnicodeEncodeError:
        try:
            line.encode("utf-8", "surrogateescape").decode()
        except UnicodeError as error:
            raise WrongInput(
                f"`corpus` file {file} must be UTF-8 text; got at line {number}: {error}; convert it"
            ) from None
    return line


def _parsed(line: str, file: Path, number: int) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WrongInput(
            f"`corpus` file {file} must hold one JSON object a line; got at line {number}: {error}; correct that line"
        ) from None


def _unreadable(file: Path, error: Exception) -> WrongInput:
    if isinstance(error, OSError) and error.errno is not None:  # from the system; errors of damaged data have no number
        return WrongInput(
            f"`corpus` file {file} must be readable; got {os.strerror(error.errno)}; check its disk and permissions"
        )
    return WrongInput(f"`corpus` file {file} must be UTF-8 text; got {error}; convert it")
