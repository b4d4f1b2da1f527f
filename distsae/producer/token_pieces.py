"""Keeps what is tokenised in pieces on the disk, so that an interrupted process loses minutes and not hours.

A piece holds documents with consecutive numbers, and is published whole under a name that says which. The next process
goes on behind the last piece of an unbroken chain. Two processes that write at the same time, because one was suspended
and its claim was taken over, are harmless: a name is given once, and equal documents have equal tokens.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distsae.checked_files.npz import npz_arrays
from distsae.durable import publish
from distsae.errors import TornData
from distsae.store.collect import PIECES_PREFIX
from distsae.store.location import Location, entries, local_copy, remove_tree
from distsae.text import TokenisedDocuments

__all__ = ["TokenPieces", "pieces_folder", "tokens_kept"]

_TOKENS = 8_000_000
_SECONDS = 60.0
_NAME = re.compile(r"(\d{10})-(\d{10})-(\d{12})-(\d{10})\.npz", re.ASCII)


@dataclass(frozen=True)
class _Piece:
    first: int
    end: int
    tokens: int
    skipped: int
    path: Location

    @classmethod
    def named(cls, path: Location) -> _Piece | None:
        found = _NAME.fullmatch(path.name)
        if found is None:
            return None
        first, end, tokens, skipped = map(int, found.groups())
        return cls(first, end, tokens, skipped, path)


class TokenPieces:
    """The tokenised documents of a corpus, on the disk but for the newest of them.

    Args:
        folder: folder of the pieces; it need not exist.
        tokens: number of tokens after which a piece is written.
        seconds: time after which it is written in any case.
    """

    def __init__(self, folder: Location, tokens: int = _TOKENS, seconds: float = _SECONDS) -> None:
        self._folder = folder
        self._most_tokens, self._most_seconds = tokens, seconds
        self._kept = _chain(folder)
        self._buffer: list[TokenisedDocuments] = []
        self._written = time.monotonic()
        last = self._kept[-1] if self._kept else None
        self.documents = last.end if last else 0
        self.tokens = sum(piece.tokens for piece in self._kept)
        self.skipped = sum(piece.skipped for piece in self._kept)

    def append(self, batch: TokenisedDocuments) -> None:
        """Adds the documents that follow."""
        if batch.first != self.documents:
            raise ValueError(f"`batch` must begin with document {self.documents}; got {batch.first}")
        self._buffer.append(batch)
        self.documents += len(batch)
        self.tokens += len(batch.token_ids)
        self.skipped += batch.skipped
        waiting = sum(len(part.token_ids) for part in self._buffer)
        if waiting >= self._most_tokens or time.monotonic() - self._written >= self._most_seconds:
            self.flush()

    def flush(self) -> None:
        """Writes what was added since the last piece, and returns when it is on the disk."""
        self._written = time.monotonic()
        if not self._buffer:
            return
        piece = TokenisedDocuments.joined(self._buffer)
        end = piece.first + len(piece)
        tokens = len(piece.token_ids)
        path = self._folder / f"{piece.first:010d}-{end:010d}-{tokens:012d}-{piece.skipped:010d}.npz"
        content = io.BytesIO()
        np.savez(content, token_ids=piece.token_ids, lengths=piece.lengths, digests=piece.digests)
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
            publish(path, content.getvalue())
        else:
            path.write_bytes(content.getvalue())
        self._kept.append(_Piece(piece.first, end, tokens, piece.skipped, path))
        self._buffer = []

    def read(self) -> Iterator[TokenisedDocuments]:
        """Yields all documents that were written, in order, a piece at a time.

        Raises:
            TornData: a piece is damaged or missing.
        """
        with local_copy(self._folder) as folder:
            for piece in self._kept:
                file = folder / piece.path.name
                try:
                    arrays = npz_arrays(file)
                    read = TokenisedDocuments(
                        first=piece.first,
                        token_ids=arrays["token_ids"].astype(np.int32, casting="safe"),
                        lengths=arrays["lengths"].astype(np.int64, casting="safe"),
                        digests=arrays["digests"].astype(np.uint64, casting="safe"),
                        skipped=piece.skipped,
                    )
                except (FileNotFoundError, KeyError, TypeError, TornData) as error:
                    raise _damaged(piece, str(error)) from None
                if len(read) != piece.end - piece.first or int(read.lengths.sum()) != len(read.token_ids):
                    raise _damaged(piece, "another number of documents or tokens")
                yield read

    def remove(self) -> None:
        """Removes all pieces."""
        remove_tree(self._folder)


def pieces_folder(copy: Location, version: str | None) -> Location:
    """Returns the folder of the pieces that become a finished copy of the corpus.

    Args:
        copy: folder of the finished copy.
        version: commit of the data set that is read, if it has one: pieces of different commits do not mix.
    """
    return copy.parent / f"{PIECES_PREFIX}{copy.name}{'' if version is None else f'-{version[:12]}'}"


def tokens_kept(contexts: Location) -> int | None:
    """Returns the number of tokens in the pieces of a store that is being tokenised; None if there are none."""
    kept = [sum(piece.tokens for piece in _chain(folder)) for folder in entries(contexts, PIECES_PREFIX)]
    return max(kept, default=None)


def _chain(folder: Location) -> list[_Piece]:
    """Returns the pieces from the first document on, each beginning where the one before it ends."""
    by_first: dict[int, _Piece] = {}
    for piece in filter(None, map(_Piece.named, entries(folder))):
        known = by_first.get(piece.first)
        if piece.end > piece.first and (known is None or piece.end > known.end):
            by_first[piece.first] = piece
    chain: list[_Piece] = []
    end = 0
    while end in by_first:
        chain.append(by_first[end])
        end = chain[-1].end
    return chain


def _damaged(piece: _Piece, reason: str) -> TornData:
    return TornData(f"{piece.path} is not what a producer wrote: {reason}; remove the folder {piece.path.parent}")
