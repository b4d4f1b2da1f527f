"""Is `NAME|PATH` a path or a name?

What starts with `.`, `/` or `~`, ends like a file of text, or exists, is a path and is never looked up on a hub: a
mistyped path must not turn into a network request for a repository of that name.
"""

from __future__ import annotations

from pathlib import Path

from distsae.errors import WrongInput

__all__ = ["local_path"]

_FILE_ENDINGS = (".jsonl", ".json", ".txt", ".parquet", ".arrow", ".gz", ".zst", ".safetensors")


def local_path(name_or_path: str, what: str) -> Path | None:
    """Returns the existing local path that `name_or_path` means, or None when it is the name of a hub repository.

    Args:
        name_or_path: as the user wrote it.
        what: the option that it came from, for the error.

    Raises:
        WrongInput: it looks like a path and nothing is there.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path and path.exists():
        return path
    is_file = name_or_path.endswith(_FILE_ENDINGS)
    if not name_or_path or name_or_path[0] in "./~" or name_or_path.count("/") > 1 or is_file:
        raise WrongInput(
            f"`{what}` (={name_or_path}) must be an existing path or the name of a hub repository; got a path where "
            f"there is nothing ({path.absolute()}); check the spelling"
        )
    return None
