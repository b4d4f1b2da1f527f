"""Reads a corpus, one document at a time, from local files or from a Hugging Face data set.

Documents come in a fixed order (files by name, lines in order), so that a document is identified by its number: every
process that reads a corpus finds the same document under the same number.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distsae.errors import WrongInput, nearest
from distsae.text.bad_records import BadRecords
from distsae.text.hub_corpus import open_hub_corpus
from distsae.text.local_path import local_path
from distsae.text.retrying import retrying
from distsae.text.tables import table_documents
from distsae.text.text_files import COMPRESSIONS, json_documents, text_document

__all__ = ["SUFFIXES", "Corpus", "corpus_files", "documents", "open_corpus"]

_JSON = tuple(f".jsonl{compression}" for compression in COMPRESSIONS)
_TEXT = tuple(f".txt{compression}" for compression in COMPRESSIONS)
_TABLES = (".parquet", ".arrow")
_PAUSES = (1.0, 5.0, 30.0)
"""Seconds before each new try to read a file, on a network file system perhaps."""
SUFFIXES = (*_JSON, *_TEXT, *_TABLES)
"""Kinds of local files that `documents` reads."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus that was found but not read yet.

    Args:
        documents: texts in order; they can be read once.
        commit: commit of the Hugging Face data set, if it is known; None for local files.
    """

    documents: Iterator[str]
    commit: str | None


def open_corpus(
    corpus: str,
    *,
    text_field: str = "text",
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    streaming: bool = True,
    first: int = 0,
    skip_bad_records: bool | None = None,
) -> Corpus:
    """Finds a corpus and returns it unread.

    Args:
        corpus: a `.jsonl` (one object a line), `.txt` (one document a file), `.parquet` or `.arrow` file, the first two
            also as `.gz` or `.zst`; a folder of such files, of any kinds; a folder that `save_to_disk` of the
            `datasets` library wrote; or the name of a Hugging Face data set.
        text_field: field or column that holds the text.
        split: split of a Hugging Face data set or of a saved `DatasetDict`; other local files have none.
        subset: configuration of a Hugging Face data set; None for its only or default one.
        revision: branch, tag or commit of a Hugging Face data set; None for the newest.
        streaming: whether a Hugging Face data set is read over the network instead of being downloaded first.
        first: number of the first document to read.
        skip_bad_records: whether a record without a text becomes an empty document, a `NoText`, instead of an error.
            None if the user has no choice.

    Raises:
        WrongInput: the corpus does not exist, a revision is given for a local path, or a record lacks the field (raised
            while reading).
    """
    path = local_path(corpus, "corpus")
    bad = BadRecords(skip_bad_records)
    if path is not None:
        if revision is not None:
            raise WrongInput(
                f"`corpus_revision` (={revision}) must belong to a Hugging Face data set; got the local `corpus` "
                f"(={path}); leave it out, or give the name of a data set"
            )
        texts = _local_documents(corpus_files(path, split), text_field, bad)
        return Corpus(documents=itertools.islice(texts, first, None), commit=None)
    texts, commit = open_hub_corpus(
        corpus,
        text_field=text_field,
        split=split,
        subset=subset,
        revision=revision,
        streaming=streaming,
        first=first,
        bad=bad,
    )
    return Corpus(documents=texts, commit=commit)


def documents(
    corpus: str,
    *,
    text_field: str = "text",
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    streaming: bool = True,
) -> Iterator[str]:
    """Returns the documents of a corpus, to be read once; arguments and errors are those of `open_corpus`."""
    return open_corpus(
        corpus, text_field=text_field, split=split, subset=subset, revision=revision, streaming=streaming
    ).documents


def corpus_files(path: Path, split: str = "train") -> tuple[Path, ...]:
    """Returns the files of a local corpus in the order in which they are read.

    Files are sorted by name, folder by folder; hidden ones, whose names begin with a dot, are left out. In a folder
    that `save_to_disk` wrote, only files of the data set count (and only those of `split`, if it has splits), because
    the `datasets` library keeps caches in the same folder.

    Raises:
        WrongInput: `path` holds no file of a known kind, or a saved data set that lacks `split` or one of its files.
    """
    files = tuple(_walk(path, split))
    if not files:
        raise WrongInput(
            f"`corpus` (={path}) must be a file that ends in {', '.join(SUFFIXES)}, or a folder of such files; "
            "got none; check the path"
        )
    return files


def _walk(path: Path, split: str) -> Iterator[Path]:
    if path.is_file():
        if path.name.endswith(SUFFIXES):
            yield path
    elif (path / "dataset_dict.json").is_file():
        splits = list(_listed(path / "dataset_dict.json", "splits"))
        if split not in splits:
            raise WrongInput(
                f"`split` (={split}) must be one of the splits saved in {path}, {', '.join(splits)}"
                f"{nearest(split, splits)}; set --split"
            )
        yield from _walk(path / split, split)
    elif (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        for entry in _listed(path / "state.json", "_data_files"):
            if not (file := path / entry["filename"]).is_file():
                raise WrongInput(
                    f"`corpus` (={path}) must hold all files of the data set; {file.name} is missing; save it again"
                )
            yield file
    elif path.is_dir():
        for entry in sorted(path.iterdir()):
            if entry.name.startswith("."):  # what editors, notebooks and file managers leave, not text to train on
                continue
            if not (entry.is_dir() and entry.is_symlink()):  # a linked folder could contain itself
                yield from _walk(entry, split)


def _listed(file: Path, key: str) -> list[Any]:
    """Returns the list under `key` in a JSON file that `save_to_disk` wrote."""
    try:
        return list(json.loads(file.read_text(encoding="utf-8"))[key])
    except (ValueError, KeyError, TypeError) as error:
        raise WrongInput(
            f"`corpus` file {file} must be as save_to_disk wrote it; got {error!r}; save it again"
        ) from None


def _local_documents(files: tuple[Path, ...], text_field: str, bad: BadRecords) -> Iterator[str]:
    for file in files:
        yield from retrying(partial(_documents_of, file, text_field, bad), str(file), _PAUSES)


def _documents_of(file: Path, text_field: str, bad: BadRecords, first: int) -> Iterator[str]:
    """Yields the documents of a file from number `first` on."""
    if file.name.endswith(_TABLES):
        found = table_documents(file, text_field, bad)
    elif file.name.endswith(_JSON):
        found = json_documents(file, text_field, bad)
    else:
        found = (text_document(path) for path in (file,))
    return itertools.islice(found, first, None)
