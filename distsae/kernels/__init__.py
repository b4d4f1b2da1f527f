"""The operations of a step behind one seam, and the certified prefilter."""

from distsae.kernels.choice import KernelsName, kernels_for
from distsae.kernels.cpu import CPU, row_starts
from distsae.kernels.operations import AdamRows, AdamStep, Kernels
from distsae.kernels.prefilter import PrefilteredScores, PrefilterRows, prefilter_tokens
from distsae.kernels.reference import REFERENCE

__all__ = [
    "CPU",
    "REFERENCE",
    "AdamRows",
    "AdamStep",
    "Kernels",
    "KernelsName",
    "PrefilterRows",
    "PrefilteredScores",
    "kernels_for",
    "prefilter_tokens",
    "row_starts",
]
