"""Documents that are no plain text: token ids of another program, or the messages of a chat.

Each is a `str`, as every document is, with its content as text: what is counted, told apart and left out works as for
any other document. The encoder asks for the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distsae.errors import WrongInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatMessages", "GivenTokens", "document_of", "without_half_pairs"]

_MOST = 2**31 - 1


class GivenTokens(str):
    """A document of token ids.

    Attributes:
        ids: int32 `[tokens]`.
    """

    ids: NDArray[np.int32]

    def __new__(cls, ids: Sequence[int]) -> GivenTokens:
        """Returns the document of some ids; its text is the ids in digits."""
        made = super().__new__(cls, " ".join(map(str, ids)))
        made.ids = np.asarray(ids, np.int32)
        return made


class ChatMessages(str):
    """A document of messages, which become tokens by the template of the tokenizer.

    Attributes:
        messages: each with `role` and `content`.
    """

    messages: list[dict[str, Any]]

    def __new__(cls, messages: Sequence[Mapping[str, Any]]) -> ChatMessages:
        """Returns the document of some messages; its text is what they say."""
        made = super().__new__(cls, "\n".join(str(message["content"]) for message in messages))
        made.messages = [dict(message) for message in messages]
        return made

    def ids(self, tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int32]:
        """Returns the tokens of the whole chat, control tokens included, int32 `[tokens]`.

        Raises:
            WrongInput: the tokenizer has no template, or one that does not take these messages.
        """
        if getattr(tokenizer, "chat_template", None) is None:
            raise WrongInput(
                "`model` must have a tokenizer with a chat template for a corpus of messages; got none; save the "
                "tokenizer of a chat model in its folder, or use a corpus of text"
            )
        try:
            found = tokenizer.apply_chat_template(self.messages, tokenize=True, return_dict=True)["input_ids"]
        except _refusals() as error:
            reason = " ".join(str(error).split())[:200]
            raise WrongInput(
                f"`corpus` must have messages that the tokenizer's chat template takes; got {type(error).__name__}: "
                f"{reason}; leave such chats out, or use another template"
            ) from error
        return np.asarray(found, np.int32)


def _refusals() -> tuple[type[Exception], ...]:
    """Returns what a template raises, which is a program of its own, and what transformers does without jinja2."""
    own = (ArithmeticError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)
    if find_spec("jinja2") is None:
        return own
    from jinja2 import TemplateError

    return (*own, TemplateError)


def document_of(value: object) -> str | None:
    """Returns the document that a field of a record holds; None if it holds none.

    Args:
        value: a text; a list of token ids; or a list of messages with `role` and `content`.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return None
    if all(type(one) is int and 0 <= one <= _MOST for one in value):
        return GivenTokens(value)
    if all(isinstance(one, dict) and isinstance(one.get("role"), str) and "content" in one for one in value):
        return ChatMessages(value)
    return None


def without_half_pairs(text: str) -> str:
    """Returns a document in which half of a surrogate pair, which JSON can express but UTF-8 cannot, is U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        if isinstance(text, ChatMessages):
            return ChatMessages([{**one, "content": _mended(str(one["content"]))} for one in text.messages])
        return _mended(text)
    return text


def _mended(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
