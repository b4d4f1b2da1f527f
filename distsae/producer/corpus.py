"""Text, one document at a time, from a local folder or a hub data set.

Documents come in one fixed order (files by name, lines in order), so that a document's number is its identity:
every process that reads a corpus sees the same document under the same number.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from distsae.errors import WrongInput, nearest
from distsae.producer.places import local_path

__all__ = ["SUFFIXES", "corpus_files", "documents"]

SUFFIXES = (".jsonl", ".jsonl.gz", ".txt", ".txt.gz", ".parquet")
"""Kinds of local files that `documents` reads."""


def documents(
    corpus: str, *, text_field: str = "text", split: str = "train", subset: str | None = None
) -> Iterator[str]:
    """Yields the documents of `corpus` in order; checks that there is something to read before it returns.

    Args:
        corpus: a `.jsonl` (one object a line), `.txt` (one document a file) or `.parquet` file, a folder of them,
            or the name of a Hugging Face data set, which is streamed.
        text_field: the field or column that holds the text.
        split: the split of a Hugging Face data set; local files have none.
        subset: the configuration of a Hugging Face data set.

    Raises:
        WrongInput: nothing is there, or a record lacks the field (raised while reading).
    """
    path = local_path(corpus, "corpus")
    if path is None:
        return _hub_documents(corpus, text_field, split, subset)
    return _local_documents(corpus_files(path), text_field)


def corpus_files(path: Path) -> tuple[Path, ...]:
    """Returns the files of a local corpus, ordered by name.

    Raises:
        WrongInput: `path` holds no file of a known kind.
    """
    candidates = [path] if path.is_file() else sorted(path.rglob("*"))
    files = tuple(file for file in candidates if file.name.endswith(SUFFIXES) and file.is_file())
    if not files:
        raise WrongInput(
            f"`corpus` (={path}) must be or hold files ending in {', '.join(SUFFIXES)}; got none; do point it at them"
        )
    return files


def _local_documents(files: tuple[Path, ...], text_field: str) -> Iterator[str]:
    for file in files:
        if file.name.endswith(".parquet"):
            yield from _parquet_documents(file, text_field)
        elif file.name.endswith((".jsonl", ".jsonl.gz")):
            yield from _json_documents(file, text_field)
        else:
            yield _read_text(file)


def _read_text(file: Path) -> str:
    try:
        if file.name.endswith(".gz"):
            return gzip.decompress(file.read_bytes()).decode()
        return file.read_text(encoding="utf-8")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise WrongInput(f"`corpus` file {file} must be UTF-8 text; got {error}; do convert it") from None


def _json_documents(file: Path, text_field: str) -> Iterator[str]:
    with gzip.open(file, "rt", encoding="utf-8") if file.name.endswith(".gz") else file.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _text_of(json.loads(line), text_field, f"{file}, line {number}")
        except json.JSONDecodeError as error:
            raise WrongInput(
                f"`corpus` file {file} must hold one JSON object a line; got at line {number}: {error}; do mend it"
            ) from None
        except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
            raise WrongInput(f"`corpus` file {file} must be UTF-8 text; got {error}; do convert it") from None


def _parquet_documents(file: Path, text_field: str) -> Iterator[str]:
    from datasets import load_dataset

    stream = load_dataset("parquet", data_files=str(file), split="train", streaming=True)
    for number, record in enumerate(stream):
        yield _text_of(record, text_field, f"{file}, row {number}")


def _hub_documents(name: str, text_field: str, split: str, subset: str | None) -> Iterator[str]:
    from datasets import load_dataset
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # without a network it reports every retry; the error below says it once
    try:
        stream = load_dataset(name, subset, split=split, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise WrongInput(
            f"`corpus` (={name}) must be an existing path or a Hugging Face data set with the split {split!r}; got "
            f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}; do check the name, `split`, "
            "`subset` and the network"
        ) from error

    def texts() -> Iterator[str]:
        for number, record in enumerate(stream):
            yield _text_of(record, text_field, f"{name}, record {number}")

    return texts()


def _text_of(record: object, text_field: str, where: str) -> str:
    if isinstance(record, dict) and isinstance(text := record.get(text_field), str):
        return text
    fields = list(record) if isinstance(record, dict) else []
    seen = f"the fields {fields}" if fields else f"a {type(record).__name__}"
    raise WrongInput(
        f"`text_field` (={text_field}) must name a text in every record; got {seen} in {where}"
        f"{nearest(text_field, fields)}; do set --text_field"
    )
