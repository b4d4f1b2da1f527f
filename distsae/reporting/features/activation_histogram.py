"""Histograms of activations whose bins are fixed beforehand, so that those of parts add up exactly.

The range of a feature's activations is known only at the end of a pass. So bins are the same for all features: eight to
an octave, each 9% wide. Most features fire in a few octaves, so only the bins that are used are kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "EDGES", "OCTAVES", "PER_OCTAVE", "bin_centre", "bins_of", "counted"]

OCTAVES = 20
"""Octaves of the histograms on either side of 1."""

PER_OCTAVE = 8

EDGES = np.exp2(np.arange(-OCTAVES * PER_OCTAVE, OCTAVES * PER_OCTAVE + 1) / PER_OCTAVE).astype(np.float32)
"""Edges between bins, fp32. Bin `i` holds activations from `EDGES[i - 1]` to below `EDGES[i]`; the first and the last
bin hold everything below and above."""

BINS = len(EDGES) + 1


def bins_of(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the bin of each activation, int64 of the same shape."""
    return np.searchsorted(EDGES, scores, side="right").astype(np.int64)


def bin_centre(index: int) -> float:
    """Returns the middle of a bin, on a scale of ratios."""
    return float(2.0 ** ((index - 0.5) / PER_OCTAVE - OCTAVES))


def counted(
    feature: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns the bins that are used: feature, bin and count of each, all int64 `[used]`, by feature, then bin."""
    keys, counts = np.unique(feature * BINS + bins_of(scores), return_counts=True)
    return keys // BINS, keys % BINS, counts.astype(np.int64)
