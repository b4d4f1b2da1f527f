"""Turns documents into one stream of tokens, and keeps where each document ends and a digest of its text.

Each document that is not empty is ended by EOS. The digest tells which documents repeat: it is that of the words alone,
so that a copy with other line breaks is the same text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distsae.errors import WrongInput
from distsae.text.bad_records import NoText
from distsae.text.encoding import DocumentEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["MAX_DOCUMENTS", "TokenisedDocuments", "text_digest", "tokenised_documents"]

MAX_DOCUMENTS = 2**31
"""Documents that a corpus may have, because their numbers are kept as int32."""

_CHARACTERS_AT_ONCE = 1 << 18


@dataclass(frozen=True, kw_only=True)
class TokenisedDocuments:
    """Documents with consecutive numbers, and their tokens.

    Args:
        first: number of the first document.
        token_ids: int32 `[tokens]`, of all documents in order, EOS included.
        lengths: int64 `[documents]`, number of tokens of each; 0 for an empty one.
        digests: uint64 `[documents]`, `text_digest` of each.
        skipped: number of documents that stand for records without a text.
    """

    first: int
    token_ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    digests: NDArray[np.uint64]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def document_id(self) -> NDArray[np.int32]:
        """Number of the document that each token belongs to, int32 `[tokens]`."""
        return np.repeat(np.arange(self.first, self.first + len(self), dtype=np.int32), self.lengths)

    @classmethod
    def joined(cls, parts: list[TokenisedDocuments]) -> TokenisedDocuments:
        """Returns one or more parts that follow each other as one."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            first=parts[0].first,
            token_ids=np.concatenate([part.token_ids for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
            digests=np.concatenate([part.digests for part in parts]),
            skipped=sum(part.skipped for part in parts),
        )

    def cut_to(self, multiple: int) -> TokenisedDocuments:
        """Returns the documents without the tokens beyond the last multiple of `multiple` in each of them."""
        lengths = self.lengths // multiple * multiple
        begin = np.cumsum(self.lengths) - self.lengths
        place = np.arange(len(self.token_ids)) - np.repeat(begin, self.lengths)
        kept = self.token_ids[place < np.repeat(lengths, self.lengths)]
        return replace(self, token_ids=kept, lengths=lengths)

    def only(self, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns token ids and document numbers of the `chosen` documents, bool `[documents]`."""
        of_chosen = np.repeat(chosen, self.lengths)
        return self.token_ids[of_chosen], self.document_id[of_chosen]


def tokenised_documents(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: int | None = None,
    *,
    first: int = 0,
    most_tokens: int | None = None,
    documents_at_once: int = 512,
    characters_at_once: int = 4_000_000,
    max_documents: int = MAX_DOCUMENTS,
) -> Iterator[TokenisedDocuments]:
    """Yields the documents in batches, in order; each batch has at least one token, but for the last.

    Memory is bounded, whatever the size of the corpus. A batch ends after `documents_at_once` documents with text,
    which keep the tokenizer's threads busy, or after `characters_at_once` characters, because a token takes far more
    memory in the tokenizer than in an array.

    Args:
        documents: texts in order, from number `first` on; an empty one takes a number but gives no token.
        tokenizer: tokenizer of the transformers library, with an EOS token.
        vocabulary: number of token ids that the model has an embedding for; None leaves ids unchecked.
        first: number of the first document.
        most_tokens: number of tokens after which nothing is read, in the middle of a document perhaps; None for all.
        documents_at_once: most documents with text in a batch.
        characters_at_once: number of characters after which a batch ends.
        max_documents: most documents that the corpus may have.

    Raises:
        WrongInput: the tokenizer has no EOS token or does not know the text, a token has no embedding, or there are
            more documents than `max_documents`.
    """
    if tokenizer.eos_token_id is None:
        raise WrongInput("the tokenizer must have an EOS token to end documents with; got none; set eos_token")
    encoder = DocumentEncoder(tokenizer, vocabulary)
    encoder.check_ids(int(tokenizer.eos_token_id))
    return _encoded(
        _batches(documents, first, documents_at_once, characters_at_once, min(max_documents, MAX_DOCUMENTS)),
        encoder,
        int(tokenizer.eos_token_id),
        most_tokens,
    )


def text_digest(text: str) -> int:
    """Returns 64 bits that tell texts apart by their words, whatever the white space between them."""
    digest = hashlib.blake2b(digest_size=8)
    apart = begun = False  # whether white space has come since the last word, and whether there was a word
    for start in range(0, len(text), _CHARACTERS_AT_ONCE):  # the words of a long text take ten times its memory
        part = text[start : start + _CHARACTERS_AT_ONCE]
        words = " ".join(part.split())
        if words:
            if begun and (apart or part[0].isspace()):
                digest.update(b" ")
            digest.update(words.encode(errors="surrogatepass"))
            begun = True
        apart = part[-1].isspace()
    return int.from_bytes(digest.digest(), "little")


def _encoded(
    batches: Iterable[tuple[int, list[str]]], encoder: DocumentEncoder, eos: int, most: int | None
) -> Iterator[TokenisedDocuments]:
    end = np.asarray([eos], np.int32)
    for first, texts in batches:
        encoded = iter(encoder.encode([text for text in texts if text], most))
        parts = [part for text in texts for part in ((next(encoded), end) if text else ())]
        of_texts = iter(map(len, parts[::2]))
        lengths = np.asarray([next(of_texts) + 1 if text else 0 for text in texts], np.int64)
        token_ids = np.concatenate(parts) if parts else end[:0]
        if most is not None and len(token_ids) >= most:
            count = int(np.searchsorted(np.cumsum(lengths), most)) + 1
            texts, lengths = texts[:count], lengths[:count]
            token_ids = token_ids[:most]
            lengths[-1] -= lengths.sum() - most
        yield TokenisedDocuments(
            first=first,
            token_ids=token_ids,
            lengths=lengths,
            digests=np.fromiter(map(text_digest, texts), np.uint64, count=len(texts)),
            skipped=sum(isinstance(text, NoText) for text in texts),
        )
        if most is not None and (most := most - len(token_ids)) <= 0:
            break
    encoder.check()


def _batches(
    documents: Iterable[str], first: int, documents_at_once: int, characters_at_once: int, max_documents: int
) -> Iterator[tuple[int, list[str]]]:
    """Yields the documents that are tokenised together, with the number of the first of them."""
    batch: list[str] = []
    with_text = characters = 0
    for number, text in enumerate(documents, start=first):
        if number >= max_documents:
            raise WrongInput(
                f"`corpus` must have at most {max_documents:,} documents, because their numbers are kept in 32 bits; "
                "got more; use a part of the corpus, or join short documents"
            )
        batch.append(text)
        with_text += bool(text)
        characters += len(text)
        if with_text == documents_at_once or characters >= characters_at_once:
            yield first, batch
            first += len(batch)
            batch = []
            with_text = characters = 0
    if batch:
        yield first, batch
