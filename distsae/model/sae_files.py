"""Which SAE a path means.

A path means the SAE in that folder, in the files of distsae or of another tool. If there is none, the path means the
folder of a run, which keeps its SAE in `sae`.
"""

from __future__ import annotations

from pathlib import Path

from distsae.errors import WrongInput
from distsae.model.formats.catalogue import foreign_format
from distsae.model.formats.distsae_files import CONFIG, WEIGHTS
from distsae.store.mounted_path import mounted_path

__all__ = ["CONFIG", "IN_RUN", "WEIGHTS", "is_complete", "sae_folder"]

IN_RUN = "sae"
"""Folder of the SAE inside the folder of the run that trained it."""


def is_complete(folder: Path) -> bool:
    """Returns whether a folder holds both files of an SAE of distsae; neither is read."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def sae_folder(path: str | Path, option: str | None = None) -> Path:
    """Returns the folder of the SAE that a path means: the path itself or its `sae` folder, whichever has one.

    Args:
        path: folder of an SAE, or of the run that trained it.
        option: name of the option that the user gave the path with, for the error; None for a path without an option.

    Raises:
        WrongInput: neither folder holds a complete SAE, or the path is a URL.
    """
    path = mounted_path(path, option)
    for folder in (path, path / IN_RUN):
        if is_complete(folder) or foreign_format(folder) is not None:
            return folder
    subject = f"`{path}`" if option is None else f"`{option}` (={path})"
    if not path.is_dir():
        raise WrongInput(f"{subject} must be an SAE folder or a finished run; got no such folder; check the path")
    raise WrongInput(
        f"{subject} must be an SAE folder or a finished run; got no {CONFIG} with {WEIGHTS} in it or in its `{IN_RUN}` "
        "folder, and no files of another tool; give the `out` of a `distsae train` that has ended"
    )
