"""The files that an evaluation writes: where they go, and that they replace nothing but an earlier evaluation."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

from distsae.errors import WrongInput
from distsae.evaluation.config import EvaluateConfig
from distsae.model.sae_files import IN_RUN
from distsae.model.sae_reading import folder_of, refuse_to_write_there

__all__ = ["default_out", "out_file"]

_KEYS = {"frozen_rule", "fvu", "sae"}
"""Keys by which an `evaluation.json` of any version is recognised."""

_ARRAYS = {"density.npy", "squared_error.npy"}
"""Members by which its arrays are."""


def out_file(config: EvaluateConfig) -> Path:
    """Returns the JSON file to write. Nothing is made yet.

    Raises:
        WrongInput: the file, or the one for the arrays beside it, is there and is no evaluation; or it has no folder
            that can be written to.
    """
    out = default_out(Path(config.run)) if config.out is None else Path(config.out)
    for path, recognised in ((out, _is_evaluation(out)), (out.with_suffix(".npz"), _are_arrays(out))):
        if path.exists() and not recognised:
            raise WrongInput(
                f"`out` (={out}) must be a new file or an earlier evaluation; got {path}, which is neither and would "
                "be overwritten; choose another name"
            )
    there = next(folder for folder in out.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        got = "without that right" if there.is_dir() else "which is a file"
        raise WrongInput(
            f"`out` (={out}) must be in a folder that can be written to; got {there}, {got}; choose another `out`"
        )
    return out


def default_out(path: Path) -> Path:
    """Returns the file for an evaluation of `path`: in the run folder, or in the folder of an SAE without a run."""
    folder = folder_of(path, "run").resolve()
    refuse_to_write_there(path, "run")
    run = folder.parent if folder.name == IN_RUN and (folder.parent / "config.yaml").is_file() else path
    return run / "evaluation.json"


def _is_evaluation(path: Path) -> bool:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= _KEYS


def _are_arrays(out: Path) -> bool:
    try:
        with zipfile.ZipFile(out.with_suffix(".npz")) as arrays:
            return {*arrays.namelist()} >= _ARRAYS
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
