"""Sparse decode and gradients."""

from distsae.kernels.sparse import decode, match_dots, row_sums

__all__ = ["decode", "match_dots", "row_sums"]
