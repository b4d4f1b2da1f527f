"""Reads the documents of a Hugging Face data set at one commit, streamed or downloaded first."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from distsae.errors import WrongInput
from distsae.progress import is_main_process, say
from distsae.text.bad_records import BadRecords
from distsae.text.retrying import retrying
from distsae.text.text_field import text_of

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder, IterableDataset

__all__ = ["open_hub_corpus"]


def open_hub_corpus(
    name: str,
    *,
    text_field: str,
    split: str,
    subset: str | None,
    revision: str | None,
    streaming: bool,
    first: int = 0,
    bad: BadRecords | None = None,
) -> tuple[Iterator[str], str | None]:
    """Finds a data set and returns its documents in order, and its commit.

    No document is read before the first one is requested. Without a network, a data set that was downloaded earlier is
    read from the cache of the `datasets` library.

    Args:
        name: name of the data set.
        text_field: field that holds the text.
        split: split to read.
        subset: configuration of the data set; None for its only or default one.
        revision: branch, tag or commit; None for the newest.
        streaming: whether to read over the network instead of downloading everything first.
        first: number of the first document to read.
        bad: receives records without a text; by default such a record is an error.

    Returns:
        The documents, and the commit (None if the library does not report it).

    Raises:
        WrongInput: there is no such data set, split, subset or revision. If the data set is downloaded first, a missing
            split may be found only when the first document is read.
    """
    from datasets import load_dataset_builder
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()  # without a network it reports every retry; one error below is enough
    with _named_errors(name, split), _bars_on_a_terminal_only():
        builder = load_dataset_builder(name, subset, revision=revision)
        commit = builder.hash if re.fullmatch("[0-9a-f]{40}", str(builder.hash)) else None
        stream = builder.as_streaming_dataset(split=split) if streaming else None
    _check_revision(builder, name, revision)

    bad = bad or BadRecords()

    def texts(given: int) -> Iterator[str]:
        records: Dataset | IterableDataset = _downloaded(builder, name, split) if stream is None else stream
        if records.features is not None and text_field in records.features:
            records = records.select_columns([text_field])  # images and sounds in other fields are not decoded
        start = first + given
        number: int | None = None
        for number, record in enumerate(records.skip(start) if start else records, start=start):
            try:
                text = text_of(record, text_field, f"{name}, record {number}")
            except WrongInput as error:
                text = bad.instead(error)
            yield text
        _say_if_short(builder, name, split, start if number is None else number + 1)

    return retrying(texts, name), commit


def _downloaded(builder: DatasetBuilder, name: str, split: str) -> Dataset:
    with _named_errors(name, split), _bars_on_a_terminal_only():
        builder.download_and_prepare()
        return builder.as_dataset(split=split)


def _say_if_short(builder: DatasetBuilder, name: str, split: str, read: int) -> None:
    """Says so if a stream has ended without an error before the data set does, if its length is known."""
    known = (builder.info.splits or {}).get(split)
    if known is not None and known.num_examples and read < known.num_examples:
        say(f"{name} gave {read:,} records where its description promises {known.num_examples:,}")


def _check_revision(builder: DatasetBuilder, name: str, revision: str | None) -> None:
    """Checks that a data set from the cache, which is searched by name only, has the requested revision."""
    from_cache = type(builder).__module__ == "datasets.packaged_modules.cache.cache"
    if from_cache and revision not in (None, builder.hash):
        raise WrongInput(
            f"`corpus_revision` (={revision}) must be in the cache or on a hub that answers; got a cache that holds "
            f"{name} at {builder.hash}, and no answer from the hub; connect to the network, or use that commit"
        )


@contextlib.contextmanager
def _named_errors(name: str, split: str) -> Iterator[None]:
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise WrongInput(
            f"`corpus` (={name}) must be an existing path or a Hugging Face data set with the split {split!r}; got "
            f"{type(error).__name__}: {reason[:500]}; check the name, `split`, `subset`, `corpus_revision` and the "
            "network"
        ) from error


@contextlib.contextmanager
def _bars_on_a_terminal_only() -> Iterator[None]:
    """Within this context, the libraries show progress bars only on a terminal of the main process."""
    import datasets.utils
    import huggingface_hub.utils

    silenced = []
    if not (sys.stderr.isatty() and is_main_process()):
        libraries = (datasets.utils, huggingface_hub.utils)
        silenced = [library for library in libraries if not library.are_progress_bars_disabled()]
    for library in silenced:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for library in silenced:
            library.enable_progress_bars()
