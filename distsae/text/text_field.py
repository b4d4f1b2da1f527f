"""The text in a record of a corpus, whatever the corpus is."""

from __future__ import annotations

from distsae.errors import WrongInput, nearest

__all__ = ["no_text", "text_of"]


def text_of(record: object, text_field: str, where: str) -> str:
    """Returns `record[text_field]`.

    Args:
        record: what should be a dict with a text under that name.
        text_field: the field.
        where: file and line, for the error.

    Raises:
        WrongInput: it is not; what is there instead is named.
    """
    if not isinstance(record, dict):
        raise no_text(text_field, f"a {type(record).__name__}", where)
    if text_field not in record:
        raise no_text(text_field, f"the fields {list(record)}", where, nearest(text_field, map(str, record)))
    if not isinstance(text := record[text_field], str):
        raise no_text(text_field, "null" if text is None else f"a {type(text).__name__}", where)
    return text


def no_text(text_field: str, seen: str, where: str, hint: str = "") -> WrongInput:
    """Returns the error that says that `seen` is where a text should be."""
    return WrongInput(
        f"`text_field` (={text_field}) must name a text in every record; got {seen} in {where}{hint}; set --text_field"
    )
