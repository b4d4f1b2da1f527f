r"""The text of single tokens, so that the tokens of a context side by side read as the context does.

Tokenizers write a vocabulary in alphabets of their own: byte-level ones map every byte to a printable character, others
mark spaces by `▁` and single bytes by `<0x0A>`. Decoding one token at a time would drop leading spaces in some, and in
all of them a character that is split over several tokens would be lost. Here the bytes of each token are found, and
those that are only a part of a character are shown as such: `\xe2\x80`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TokenText"]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenText:
    """Text of tokens by their ids.

    Args:
        tokenizer: tokenizer of the transformers library; None if it is not at hand, which shows ids as `⟨123⟩`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}
        self._special = frozenset() if tokenizer is None else frozenset(tokenizer.all_special_ids)
        self._is_byte_level = tokenizer is not None and _is_byte_level(tokenizer)

    def __getitem__(self, token_id: int) -> str:
        """Returns the text of a token; of an id that is not in the vocabulary, the id as `⟨123⟩`."""
        if token_id not in self._known:
            self._known[token_id] = self._text(token_id)
        return self._known[token_id]

    def of(self, token_ids: Iterable[int]) -> list[str]:
        """Returns the text of each of some tokens."""
        return [self[token_id] for token_id in token_ids]

    def _text(self, token_id: int) -> str:
        token = None if self._tokenizer is None else self._tokenizer.convert_ids_to_tokens(token_id)
        if not isinstance(token, str):
            return f"⟨{token_id}⟩"
        if token_id in self._special:
            return token
        if self._is_byte_level:
            if all(character in _BYTES for character in token):
                return _readable(bytes(_BYTES[character] for character in token))
            return token  # added by hand, and not in the alphabet
        if byte := _BYTE.fullmatch(token):
            return _readable(bytes.fromhex(byte[1]))
        return token.replace("▁", " ")


def _readable(content: bytes) -> str:
    r"""Returns bytes as text; what is no whole character as `\xe2\x80`."""
    return content.decode("utf-8", errors="backslashreplace")


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Returns whether the vocabulary has the byte-level alphabet, in which a space is `Ġ`, and no `▁` in its place."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    spaces = sum(token.startswith("Ġ") for token in vocabulary)
    return spaces > sum(token.startswith("▁") for token in vocabulary)


def _byte_alphabet() -> dict[str, int]:
    """Returns the byte that each character of the byte-level alphabet stands for: GPT-2's, which others have kept.

    Bytes that are printable in Latin-1 stand for themselves, the others for the characters from U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()
