"""The numbers that make the prefilter's bounds certain: what rounding, summing and flushing can take away at most."""

from __future__ import annotations

import torch

__all__ = ["COLUMNS", "FLUSHED", "MARGIN", "ROUND_UP", "TINY", "bias_error", "summation_error"]

COLUMNS = 4
"""Number of columns that are added to a row for its bias and margins."""

ROUND_UP = 1 + 2**-7
"""A positive number times this, rounded to bf16, is at least the number."""

MARGIN = 1.01 * ROUND_UP
"""Factor of a row's margins: the products behind both, and their sums, are rounded as well, which 1% covers."""

TINY = 2.0**-100
"""A term that keeps the bounds of positive scores from being flushed to zero."""

FLUSHED = 2.0**-63
"""The square of a smaller number may be flushed to zero, and its part of a norm be lost."""


def summation_error(d_in: int, device: torch.device) -> float:
    """Returns the largest relative error of an fp32 dot product of `d_in` and a few terms, for any order of the sum.

    The matrix units of GPUs do not round what they add: they align a few terms with the largest one and truncate them
    (Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021). With four terms the error is up to three times as
    large.
    """
    return (d_in + 2 * COLUMNS) * 2.0 ** (-24 if device.type == "cpu" else -22)


def bias_error(error: float) -> float:
    """Returns what a bias in two bf16 parts may lack, relative to it, given the error of a sum."""
    return 2**-13 + 2 * error
