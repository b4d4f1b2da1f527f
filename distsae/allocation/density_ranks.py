"""Ranks of features by density, without a sort and without gathering densities.

Densities are compared by the upper half of their fp32 bit pattern, which is what bfloat16 keeps: 128 bins per octave,
so that a density is known to within 0.4%. One all-reduce of the counts of the bins, 256 KiB for every `d_sae`, gives
each rank the distribution of all densities. What follows from the counts alone is equal bit for bit on every rank and
mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation.cache_blocks import cache_blocks
from distsae.allocation.segments import counted
from distsae.collective import Collective, Solo

__all__ = ["DensityRanks"]

_BINS = 0x7F80
"""Number of upper halves of the bit patterns of finite numbers without a sign."""

_SMALLEST = 0x80
"""First bin of normal numbers; a density in a lower bin counts as zero."""


@dataclass(frozen=True)
class DensityRanks:
    """The features of all ranks, ordered by density.

    Features in one bin are tied: each has the mean of the ranks that they occupy together.

    Args:
        bins: bin of each local feature, int32 `[d_sae_local]`; a higher bin is a greater density, 0 is density zero.
        counts: number of features in each bin over all ranks, int64 `[bins]`, 32640 bins.
    """

    bins: Tensor
    counts: Tensor

    @staticmethod
    def measure(density: Tensor, feature: Collective | None = None) -> DensityRanks:
        """Ranks the features of all ranks by their densities; collective.

        Args:
            density: densities of this rank's features, none negative, `[d_sae_local]`.
            feature: the ranks that share the features; None for one process that holds all of them.
        """
        bins = torch.empty_like(density, dtype=torch.int32)
        counts = torch.zeros(_BINS, dtype=torch.long, device=density.device)
        for density_block, bins_block in cache_blocks(density, bins):
            torch.bitwise_right_shift(density_block.float().view(torch.int32), 16, out=bins_block)
            bins_block.masked_fill_(bins_block < _SMALLEST, 0)
            counts += counted(bins_block, _BINS)
        return DensityRanks(bins, (feature or Solo()).sum(counts).cpu())

    @property
    def features(self) -> int:
        """Number of features, over all ranks."""
        return int(self.counts.sum())

    @property
    def alive(self) -> int:
        """Number of features with a density above zero, over all ranks."""
        return int(self.counts[1:].sum())

    @property
    def rank_of_bin(self) -> Tensor:
        """Rank of the features in each bin, 1 for the densest of all, fp64 `[bins]`; meaningless for an empty bin."""
        return self.features - self.counts.cumsum(0).double() + (self.counts + 1) / 2

    @property
    def density_of_bin(self) -> Tensor:
        """Density in the middle of each bin, fp64 `[bins]`."""
        pattern = (torch.arange(_BINS, dtype=torch.int32) << 16) + (1 << 15)
        middle = pattern.view(torch.float32).double()
        middle[:_SMALLEST] = 0.0
        return middle

    def rank(self) -> Tensor:
        """Returns the rank of each local feature among all features, in `[1, features]`, fp64 `[d_sae_local]`."""
        return self.of_features(self.rank_of_bin)

    def of_features(self, of_bin: Tensor) -> Tensor:
        """Returns the value of each local feature's bin, `[d_sae_local]`, from a table of all bins, `[bins]`."""
        of_bin = of_bin.to(self.bins.device)
        of_feature = torch.empty_like(self.bins, dtype=of_bin.dtype)
        for bins_block, values_block in cache_blocks(self.bins, of_feature):
            torch.index_select(of_bin, 0, bins_block, out=values_block)
        return of_feature

    def density(self, rank: Tensor) -> Tensor:
        """Returns the density, to within 0.4%, of the features with the given ranks.

        Args:
            rank: whole ranks in `[1, features]`, int64, any shape.

        Returns:
            fp64, the shape of `rank`.
        """
        features_from_top = self.counts.flip(0).cumsum(0)  # in the highest bin, the two highest, ...
        bins_above = torch.searchsorted(features_from_top, rank)
        return self.density_of_bin[_BINS - 1 - bins_above]

    def top_share(self, share: float = 0.01) -> float | None:
        """Returns the share of all matches that the densest features take; None if no feature has fired.

        Args:
            share: number of the densest features as a share of all; it need not give a whole number of features, nor
                end at the border of a bin.
        """
        counts = self.counts.flip(0).double()
        matches = counts * self.density_of_bin.flip(0)
        denser = counts.cumsum(0) - counts  # features in higher bins
        taken = ((share * self.features - denser) / counts.clamp(min=1)).clamp(0, 1)
        total = float(matches.sum())
        return float((matches * taken).sum()) / total if total > 0 else None
