"""Ranks of features by density, without a sort and without gathering densities.

Densities are compared by the upper half of their fp32 pattern, as bfloat16 cuts them off: 128 bins an octave, so that a
density is known to within 0.4%. One all-reduce of the bins' counts, 256 KiB whatever `d_sae` is, tells every rank how
the densities of all features are distributed. What follows from the counts alone is bit-equal on every rank and mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation.blocks import blocks
from distsae.collective import Collective, Solo

__all__ = ["DensityRanks"]

_BINS = 0x7F80
"""Upper halves of the patterns of finite numbers without a sign."""
_SMALLEST = 0x80
"""First bin of normal numbers; what lies below counts as zero."""


@dataclass(frozen=True)
class DensityRanks:
    """The features of all ranks in the order of their densities.

    Features of one bin are tied: they share the mean of the ranks that they take up together.

    Args:
        bins: bin of each local feature, int32 `[d_sae_local]`; a higher bin is a greater density, 0 is density zero.
        counts: features in each bin over all ranks, int64 `[bins]`, 32640 bins.
    """

    bins: Tensor
    counts: Tensor

    @staticmethod
    def measure(density: Tensor, feature: Collective | None = None) -> DensityRanks:
        """Ranks the densities of all ranks; collective.

        Args:
            density: of this rank's features, none negative, `[d_sae_local]`.
            feature: the ranks that share the features; None for one process that holds them all.
        """
        bins = torch.empty_like(density, dtype=torch.int32)
        counts = torch.zeros(_BINS, dtype=torch.long, device=density.device)
        for values, block in blocks(density, bins):
            torch.bitwise_right_shift(values.float().view(torch.int32), 16, out=block)
            block.masked_fill_(block < _SMALLEST, 0)
            counts += torch.bincount(block, minlength=_BINS)
        return DensityRanks(bins, (feature or Solo()).sum(counts).cpu())

    @property
    def features(self) -> int:
        """Number of features, over all ranks."""
        return int(self.counts.sum())

    @property
    def alive(self) -> int:
        """Number of features with a density above zero."""
        return int(self.counts[1:].sum())

    @property
    def rank_of_bin(self) -> Tensor:
        """Rank of the features of each bin, 1 for the densest of all, fp64 `[bins]`; of no use where a bin is empty."""
        return self.features - self.counts.cumsum(0).double() + (self.counts + 1) / 2

    @property
    def density_of_bin(self) -> Tensor:
        """The middle of each bin, fp64 `[bins]`."""
        pattern = (torch.arange(_BINS, dtype=torch.int32) << 16) + (1 << 15)
        middle = pattern.view(torch.float32).double()
        middle[:_SMALLEST] = 0.0
        return middle

    def rank(self) -> Tensor:
        """Returns the rank of each local feature among all, in `[1, features]`, fp64 `[d_sae_local]`."""
        return self.of_features(self.rank_of_bin)

    def of_features(self, of_bin: Tensor) -> Tensor:
        """Returns what a table by bin, `[bins]`, holds for each local feature, `[d_sae_local]`."""
        of_bin = of_bin.to(self.bins.device)
        found = torch.empty_like(self.bins, dtype=of_bin.dtype)
        for bins, block in blocks(self.bins, found):
            torch.index_select(of_bin, 0, bins, out=block)
        return found

    def density(self, rank: Tensor) -> Tensor:
        """Returns the density, to within 0.4%, of the features that hold the given ranks.

        Args:
            rank: whole ranks in `[1, features]`, int64, any shape.

        Returns:
            fp64, the shape of `rank`.
        """
        from_above = self.counts.flip(0).cumsum(0)  # features in the highest bin, the two highest, ...
        place = torch.searchsorted(from_above, rank)
        return self.density_of_bin[_BINS - 1 - place]

    def top_share(self, share: float = 0.01) -> float | None:
        """Returns the share of all matches that the densest features take; None if no feature has fired.

        Args:
            share: how many features those are, as a share of all; need not be whole, nor at the border of a bin.
        """
        counts = self.counts.flip(0).double()
        matches = counts * self.density_of_bin.flip(0)
        before = counts.cumsum(0) - counts
        taken = ((share * self.features - before) / counts.clamp(min=1)).clamp(0, 1)
        total = float(matches.sum())
        return float((matches * taken).sum()) / total if total > 0 else None
