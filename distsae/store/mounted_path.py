"""Paths that must be in a file system: everything but a store, which may also be in an object store.

A library would take the URL `s3://bucket/run` for a folder named `s3:` in the current one. So every path that a user
gives for a run, an SAE, a report or an evaluation is read here: `~` is expanded, `file://` means what it says, and any
other URL is refused.
"""

from __future__ import annotations

import re
from pathlib import Path

from distsae.errors import WrongInput

__all__ = ["file_of_url", "mounted_path", "scheme_of"]

_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")
_FILE_URL = re.compile(r"^file:(?://(?:localhost)?)?(/[^/].*)$", re.IGNORECASE)


def scheme_of(text: str) -> str | None:
    """Returns the scheme of a URL in lower case, such as `s3`; None for a path."""
    url = _URL.match(text)
    return None if url is None else url[1].lower()


def file_of_url(text: str) -> Path | None:
    """Returns the path of a `file://` URL on this machine; None for anything else."""
    found = _FILE_URL.match(text)
    return None if found is None else Path(found[1])


def mounted_path(path: str | Path, option: str | None = None) -> Path:
    """Returns the path that a user means, in a file system of this machine.

    Args:
        path: a path, in which `~` is expanded, or a `file://` URL.
        option: name of the option that it was given for, for the error; None for a path without an option.

    Raises:
        WrongInput: it is another URL, or `~` names nobody.
    """
    text = str(path)
    if (file := file_of_url(text)) is not None:
        return file
    subject = f"`{text}`" if option is None else f"`{option}` (={text})"
    if scheme_of(text) is not None:
        raise WrongInput(
            f"{subject} must be a path in a file system of this machine; got a URL, and only stores can be in an "
            "object store; use a folder, and copy from or to the bucket with its own tools"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise WrongInput(f"{subject} must be a path; got {error}; write it out") from None
