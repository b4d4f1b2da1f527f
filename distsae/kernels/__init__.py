"""The costly operations of a step behind one interface, and the certified prefilter."""

from distsae.kernels.choice import KernelsName, kernels_for
from distsae.kernels.cpu import CPU, row_starts
from distsae.kernels.kept_moments import KeptMoments
from distsae.kernels.moments import Moments, MomentsName, moments_of
from distsae.kernels.operations import AdamRows, AdamStep, Kernels, RowTerm, UpdatedRows
from distsae.kernels.prefilter import (
    PrefilteredScores,
    PrefilterName,
    PrefilterRows,
    prefilter_tokens,
    prefilter_wanted,
)
from distsae.kernels.reference import REFERENCE
from distsae.kernels.upper_bounds import MatrixRoom, UpperBounds, ruled_out_to

__all__ = [
    "CPU",
    "REFERENCE",
    "AdamRows",
    "AdamStep",
    "KeptMoments",
    "Kernels",
    "KernelsName",
    "MatrixRoom",
    "Moments",
    "MomentsName",
    "PrefilterName",
    "PrefilterRows",
    "PrefilteredScores",
    "RowTerm",
    "UpdatedRows",
    "UpperBounds",
    "kernels_for",
    "moments_of",
    "prefilter_tokens",
    "prefilter_wanted",
    "row_starts",
    "ruled_out_to",
]
