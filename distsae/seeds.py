"""Seeds of random streams, each derived from the seed of the run and a name.

`derive(seed, "W_dec")` is the same on every rank, mesh, machine and Python version, so that nothing random depends
on how the work is split. Two uses with different names never share a stream.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

__all__ = ["derive", "numpy_generator", "torch_generator"]


def derive(seed: int, *names: str | int) -> int:
    """Returns a 63-bit seed that is a pure function of `seed` and `names`."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """Returns a CPU generator for the stream named `names` of `seed`."""
    return torch.Generator().manual_seed(derive(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """Returns a NumPy generator (PCG64) for the stream named `names` of `seed`."""
    return np.random.Generator(np.random.PCG64(derive(seed, *names)))
