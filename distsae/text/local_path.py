"""Tells a local path from the name of a hub repository, for options that accept both.

Text that starts with `.`, `/` or `~`, has the ending of a data file, or names something that exists is a path and is
never looked up on a hub: a mistyped path must not become a network request for a repository of that name.
"""

from __future__ import annotations

from pathlib import Path

from distsae.errors import WrongInput

__all__ = ["local_path"]

_FILE_ENDINGS = (".jsonl", ".json", ".txt", ".parquet", ".arrow", ".gz", ".zst", ".safetensors")


def local_path(name_or_path: str, option: str) -> Path | None:
    """Returns the existing local path that `name_or_path` means, or None if it is the name of a hub repository.

    Args:
        name_or_path: path or name, as the user wrote it.
        option: name of the option that it was given for; the error names it.

    Raises:
        WrongInput: `name_or_path` looks like a path, and nothing exists there.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path and path.exists():
        return path
    is_file = name_or_path.endswith(_FILE_ENDINGS)
    if not name_or_path or name_or_path[0] in "./~" or name_or_path.count("/") > 1 or is_file:
        raise WrongInput(
            f"`{option}` (={name_or_path}) must be an existing path or the name of a hub repository; got a path where "
            f"there is nothing ({path.absolute()}); check the spelling"
        )
    return None
