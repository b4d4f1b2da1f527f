"""Takes the document out of a record of a corpus (text, token ids or messages), or reports what is in its place."""

from __future__ import annotations

from distsae.errors import WrongInput, nearest
from distsae.text.given_tokens import document_of

__all__ = ["text_of", "wrong_text_field"]


def text_of(record: object, text_field: str, where: str) -> str:
    """Returns the document in the field `text_field` of `record`, of one of the kinds of `given_tokens.py`.

    Args:
        record: record as it was read, normally a dict.
        text_field: name of the field that holds the text, the token ids or the messages.
        where: file and line of the record; the error names them.

    Raises:
        WrongInput: the record is no dict, lacks the field, or has no text in it; the message names what was found.
    """
    if not isinstance(record, dict):
        raise wrong_text_field(text_field, f"a {type(record).__name__}", where)
    if text_field not in record:
        raise wrong_text_field(text_field, f"the fields {list(record)}", where, nearest(text_field, map(str, record)))
    value = record[text_field]
    if (found := document_of(value)) is None:
        raise wrong_text_field(text_field, "null" if value is None else f"a {type(value).__name__}", where)
    return found


def wrong_text_field(text_field: str, found: str, where: str, hint: str = "") -> WrongInput:
    """Returns the error for a record or a table that has no text in the field `text_field`.

    Args:
        text_field: name of the field.
        found: what is in place of a text.
        where: file and position of the record, or the file of the table.
        hint: further text, such as the result of `nearest`.
    """
    return WrongInput(
        f"`text_field` (={text_field}) must name a text, token ids or messages in every record; got {found} in {where}"
        f"{hint}; set --text_field"
    )
