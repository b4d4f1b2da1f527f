"""The files of an SAE, and which SAE a path means.

A path means the SAE in that folder. If there is none, the path means the folder of a run, which keeps its SAE in `sae`.
"""

from __future__ import annotations

from pathlib import Path

from distsae.errors import WrongInput
from distsae.store.mounted_path import mounted_path

__all__ = ["CONFIG", "IN_RUN", "WEIGHTS", "is_complete", "sae_folder"]

WEIGHTS = "sae.safetensors"
"""File of the weights."""

CONFIG = "config.json"
"""File of the `SAEConfig`. It is written last, so it describes an SAE whose weights are there."""

IN_RUN = "sae"
"""Folder of the SAE inside the folder of the run that trained it."""


def is_complete(folder: Path) -> bool:
    """Returns whether a folder holds both files of an SAE; neither is read."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def sae_folder(path: str | Path, option: str | None = None) -> Path:
    """Returns the folder of the SAE that a path means: the path itself or its `sae` folder, whichever is complete.

    Args:
        path: folder of an SAE, or of the run that trained it.
        option: name of the option that the user gave the path with, for the error; None for a path without an option.

    Raises:
        WrongInput: neither folder holds a complete SAE, or the path is a URL.
    """
    path = mounted_path(path, option)
    for folder in (path, path / IN_RUN):
        if is_complete(folder):
            return folder
    subject = f"`{path}`" if option is None else f"`{option}` (={path})"
    if not path.is_dir():
        raise WrongInput(f"{subject} must be an SAE folder or a finished run; got no such folder; check the path")
    raise WrongInput(
        f"{subject} must be an SAE folder or a finished run; got no {CONFIG} with {WEIGHTS} in it or in its `{IN_RUN}` "
        "folder; give the `out` of a `distsae train` that has ended"
    )
