"""An array in an npy file, mapped into memory after its header was compared with its size."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from distsae.checked_files import open_regular, shown
from distsae.checked_files.npz import require_npy
from distsae.errors import WrongInput

__all__ = ["mapped_npy"]


def mapped_npy(file: Path, option: str = "activations") -> np.ndarray:
    """Returns the array of an npy file, which is not read yet.

    Raises:
        WrongInput: it is not a whole npy file of numbers.
    """
    try:
        with os.fdopen(open_regular(file, error=WrongInput), "rb") as opened:
            require_npy(opened, os.fstat(opened.fileno()).st_size)
        mapped: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
        return mapped
    except (OSError, ValueError, MemoryError) as error:
        raise WrongInput(
            f"`{option}` file {file} must be a whole npy file of numbers; got: {shown(str(error))}; write it again"
        ) from None
