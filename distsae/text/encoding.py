"""Turns documents into token ids of their text, and refuses a tokenizer that does not know it.

A document is text alone: one that spells a control token, such as `<|endoftext|>`, gets the tokens of these characters
and not the control token. A tokenizer without its vocabulary gives no tokens, or unknown ones, without an error; that
shows in the totals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distsae.errors import WrongInput
from distsae.text.given_tokens import ChatMessages, GivenTokens
from distsae.text.long_text import WINDOW, encode_long

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["DocumentEncoder"]

_CHARACTERS = 1_000_000  # after so many, a tokenizer is judged without waiting for the end of the text
_LONGEST_TOKENS = 100  # characters of a token, in the mean over a corpus; real tokenizers are below 10

_PLAIN = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
"""No special tokens: EOS and BOS are added to contexts. No warnings: documents may be long."""

_OF_MOST = {"split_special_tokens": True, "return_token_type_ids": False}
"""A control token that is spelled out in a text becomes text. Tokenizers of mistral-common always do so."""


class DocumentEncoder:
    """Encodes documents, and keeps the totals by which the tokenizer is judged.

    Args:
        tokenizer: tokenizer of the transformers library.
        vocabulary: number of ids that the model has an embedding for; None leaves ids unchecked.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._unknown = tokenizer.unk_token_id
        self._control = np.asarray([i for i in tokenizer.all_special_ids if i != self._unknown], np.int64)
        spelled = [token for token in tokenizer.all_special_tokens if len(token) > 1]
        after_first = [f"(?<={re.escape(token[0])})(?={re.escape(token[1:])})" for token in spelled]
        self._inside_control = re.compile("|".join(after_first)) if after_first else None
        self._options = self._understood_options()
        self._characters = 0
        self._tokens = 0
        self._unknown_tokens = 0

    def encode(self, texts: Sequence[str], most: int | None = None) -> list[NDArray[np.int32]]:
        """Returns the token ids of each text, int32 `[tokens]`, without BOS or EOS.

        Args:
            texts: texts to encode.
            most: number of tokens after which the rest of a long text may be left; None encodes all.

        Raises:
            WrongInput: the tokenizer does not know the text, a token has no embedding, or a chat has no template.
        """
        plain = [text for text in texts if not isinstance(text, GivenTokens | ChatMessages)]
        of_plain, characters = self._encode(plain, most)
        for index, ids in enumerate(of_plain):
            if np.isin(ids, self._control).any():
                of_plain[index] = self._spelled_out(plain[index], most)
        in_order = iter(of_plain)
        encoded = [
            self._given(text) if isinstance(text, GivenTokens | ChatMessages) else next(in_order) for text in texts
        ]
        self._characters += characters
        self._tokens += sum(map(len, encoded))
        if self._unknown is not None:
            self._unknown_tokens += sum(int((ids == self._unknown).sum()) for ids in encoded)
        if self._characters >= _CHARACTERS:
            self.check()
        self.check_ids(max((int(ids.max()) for ids in encoded if len(ids)), default=0))
        return encoded

    def _given(self, document: GivenTokens | ChatMessages) -> NDArray[np.int32]:
        """Returns tokens that are given, or those of a chat, control tokens included; EOS at the end is added later."""
        ids = document.ids if isinstance(document, GivenTokens) else document.ids(self._tokenizer)
        return ids[:-1] if len(ids) and ids[-1] == self._tokenizer.eos_token_id else ids

    def check(self) -> None:
        """Judges the tokenizer by all texts that were encoded so far.

        Raises:
            WrongInput: most tokens are unknown ones, or the text gives next to no tokens.
        """
        if 2 * self._unknown_tokens > self._tokens:
            got = f"{self._unknown_tokens / self._tokens:.0%} unknown tokens ({self._tokenizer.unk_token})"
        elif self._characters > _LONGEST_TOKENS * max(self._tokens, 1):
            got = f"{self._tokens:,} tokens of {self._characters:,} characters"
        else:
            return
        raise WrongInput(
            f"`corpus` must be text that the model's tokenizer knows; got {got}; save the model's own tokenizer in its "
            "folder, or use another corpus"
        )

    def check_ids(self, largest: int) -> None:
        """Checks that the model has an embedding for tokens up to id `largest`.

        Raises:
            WrongInput: it has none.
        """
        if self._vocabulary is not None and largest >= self._vocabulary:
            raise WrongInput(
                f"`model` must have an embedding for every token of the text; got the token {largest} "
                f"({self._tokenizer.convert_ids_to_tokens(largest)}) and {self._vocabulary} embeddings; save the "
                "model's own tokenizer in its folder"
            )

    def _encode(self, texts: Sequence[str], most: int | None) -> tuple[list[NDArray[np.int32]], int]:
        """Returns the token ids of each text, and the number of characters that were encoded."""
        at_once = [text for text in texts if not self._is_long(text)]
        ids = iter(self._tokenizer(at_once, **_PLAIN, **self._options)["input_ids"] if at_once else ())
        encoded = [
            encode_long(self._tokenizer, text, most=most)
            if self._is_long(text)
            else (np.asarray(next(ids), np.int32), len(text))
            for text in texts
        ]
        return [ids for ids, _ in encoded], sum(characters for _, characters in encoded)

    def _is_long(self, text: str) -> bool:
        return len(text) > WINDOW and bool(getattr(self._tokenizer, "is_fast", False))

    def _understood_options(self) -> dict[str, bool]:
        """Returns the options that this tokenizer takes: those of mistral-common refuse some, and need none of them.

        Raises:
            WrongInput: it encodes no text either way.
        """
        refused = ""
        for options in (_OF_MOST, {}):
            try:
                self._tokenizer(["a"], **_PLAIN, **options)
            except (ValueError, TypeError, RuntimeError) as error:
                refused = refused or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            else:
                return dict(options)
        raise WrongInput(
            f"`model` must have a tokenizer that encodes text; got {refused}; save another tokenizer of that model in "
            "its folder"
        )

    def _spelled_out(self, text: str, most: int | None) -> NDArray[np.int32]:
        """Returns the tokens of a text whose vocabulary itself holds what control tokens are spelled like.

        Each spelling is cut after its first character, and the pieces are encoded alone.
        """
        if self._inside_control is None:
            return self._encode([text], most)[0][0]
        pieces = [piece for piece in self._inside_control.split(text) if piece]
        return np.concatenate(self._encode(pieces, most)[0])
