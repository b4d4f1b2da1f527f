"""A bf16 product that certifies which scores cannot be selected; the others are computed in fp32.

With `w`, `x` a feature's encoder row and a centred token, and hats for what bf16 makes of them,

    w . x = w^ . x^ + (w - w^) . x^ + w . (x - x^)  <=  w^ . x^ + |w - w^| |x^| + |w| |x - x^|

The two margins, and the bias, are products too: four more columns in both matrices, rounded up, make one bf16 product
an upper bound of every score. What it holds under a bound is under it; what it lets through is rescored by a dot
product of its own, so that a selection from these scores is one from fp32 scores, bit for bit the same however the
features are cut into blocks or the tokens over ranks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from distsae.allocation.scores import in_block
from distsae.kernels.operations import Kernels

__all__ = ["PrefilterName", "PrefilterRows", "PrefilteredScores", "prefilter_tokens", "prefilter_wanted"]

PrefilterName = Literal["auto", "bf16", "none"]

_COLUMNS = 4
_ALIGNMENT = 16
_ROUND_UP = 1 + 2**-7
"""A number times this, rounded to bf16, is not under the number."""

_LOWER = 1 - 2**-7
"""A bf16 score that is rounded from one of at least `bound` is above `bound` times this, rounded to bf16."""

_TINY = 2.0**-100
"""Keeps bounds of positive scores from being flushed to zero."""

_LARGEST = 2.0**120

_FLUSHED = 2.0**-63
"""The square of a smaller number may be flushed to zero, and what it adds to a norm be lost."""


def prefilter_wanted(name: PrefilterName, device: torch.device) -> bool:
    """Says whether scores are prefiltered on a device; `auto` does where it multiplies bf16 natively."""
    if name != "auto":
        return name == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _summation_error(d_in: int, device: torch.device) -> float:
    """Returns the relative error of a dot product of `d_in` and a few terms in fp32, whatever the order of its sum.

    The matrix units of GPUs do not round what they add, they line up a few terms with the largest and cut them off
    (Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021): up to three times as much, if there are four.
    """
    return (d_in + 2 * _COLUMNS) * 2.0 ** (-24 if device.type == "cpu" else -22)


class PrefilterRows:
    """The bf16 copy of a shard's encoder rows, with what is needed to bound scores from above.

    Args:
        features: number of rows.
        d_in: width of the activations.
        device: where they are kept.

    Attributes:
        rows: bf16 `[features, width]`: the row; the bias in two parts; the norm; the error's norm.
    """

    def __init__(self, features: int, d_in: int, device: torch.device) -> None:
        self.d_in = d_in
        width = -(-(d_in + _COLUMNS) // _ALIGNMENT) * _ALIGNMENT
        self.rows = torch.zeros(features, width, dtype=torch.bfloat16, device=device)

    def refresh(self, first: int, W_enc: Tensor, b_enc: Tensor) -> None:
        """Takes over the encoder rows and biases of the features `first, ...`, fp32 `[n, d_in]` and `[n]`."""
        rows, error = self.rows[first : first + W_enc.shape[0]], _summation_error(self.d_in, self.rows.device)
        low = rows[:, : self.d_in]
        low.copy_(W_enc)
        norm = _norms(W_enc)
        off = _norms(low.to(W_enc.dtype).sub_(W_enc))
        coarse = b_enc.bfloat16()
        rest = b_enc - coarse.to(b_enc.dtype) + (2**-13 + 2 * error) * b_enc.abs() + _TINY
        # The products behind both margins, and their sums, are rounded as well: 1% covers it.
        margins = torch.stack([rest, norm * (1.01 * _ROUND_UP), (off + 2.5 * error * norm) * (1.01 * _ROUND_UP)], 1)
        rows[:, self.d_in] = coarse
        rows[:, self.d_in + 1 : self.d_in + _COLUMNS] = margins.bfloat16()

    def certifies(self, columns: Tensor) -> bool:
        """Says whether no score of these tokens can overflow or is not a number, nor any bound on them."""
        norms, biases = self.rows[:, self.d_in + 2], self.rows[:, self.d_in]
        longest = norms.float().max() * columns[:, self.d_in + 3].float().max()
        return bool(longest + biases.float().abs().max() < _LARGEST)


def prefilter_tokens(centred: Tensor) -> Tensor:
    """Returns the other matrix of the bound: bf16 `[tokens, width]` of activations less `b_dec`, `[tokens, d_in]`."""
    tokens, d_in = centred.shape
    columns = PrefilterRows(tokens, d_in, centred.device).rows
    low = columns[:, :d_in]
    low.copy_(centred)
    widened = low.to(centred.dtype)
    norm = torch.maximum(_norms(centred), _norms(widened))
    off = _norms(widened.sub_(centred))
    columns[:, d_in : d_in + 2] = 1
    columns[:, d_in + 2 : d_in + _COLUMNS] = (torch.stack([off, norm], 1) * _ROUND_UP).bfloat16()
    return columns


def _norms(rows: Tensor) -> Tensor:
    """Returns what the norms of some rows are not over, but for rounding."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms.add_(_FLUSHED * rows.shape[1] ** 0.5)


class PrefilteredScores:
    """A block of scores of which only those that may matter are computed; see `distsae.allocation.Scores`.

    Args:
        kernels: the operations.
        upper: upper bounds of the scores, bf16 `[features, tokens]`, contiguous.
        W_enc: encoder rows of the block, `[features, d_in]`.
        b_enc: `[features]`.
        centred: activations less `b_dec`, `[tokens, d_in]`.

    Attributes:
        rescored: scores computed exactly so far.
    """

    def __init__(self, kernels: Kernels, upper: Tensor, W_enc: Tensor, b_enc: Tensor, centred: Tensor) -> None:
        self._kernels, self._upper = kernels, upper
        self._W_enc = W_enc
        self._b_enc = b_enc
        self._centred = centred
        self.rescored = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Features and tokens."""
        return self._upper.shape[0], self._upper.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the scores are."""
        return self._upper.device

    def non_finite(self) -> int:
        """Returns 0: whoever made the bounds has certified it."""
        return 0

    def above(self, bound: Tensor, rows: Tensor | None = None, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Finds the positive scores that are not under a bound; see `Scores.above`."""
        upper = self._upper if rows is None else self._upper[rows]
        place = self._kernels.above(upper, (bound * _LOWER).bfloat16())
        if most is not None and place.numel() > 2 * most > 0:
            # The block alone shows a higher bound: the smallest of as many exact scores as may be needed.
            likely = place[upper.view(-1)[place].topk(most, sorted=False).indices].sort().values
            bound = bound.clamp(min=float(self._exact(self._flat(likely, rows)).min().float()))
            place = self._kernels.above(upper, (bound * _LOWER).bfloat16())
        flat = self._flat(place, rows)
        score = self._exact(flat)
        if bound.numel() > 1:
            row = place // upper.shape[1]
            bound = bound.expand(upper.shape)[row, place - row * upper.shape[1]]
        kept = ((score.float() >= bound.view(-1)) & (score > 0)).nonzero().squeeze(1)
        return flat[kept], score[kept]

    def leading(self, k: int) -> Tensor:
        """Returns a lower bound of each token's `k`-th largest score: the least of `k` likely ones."""
        tokens = self.shape[1]
        feature = self._upper.t().topk(k, dim=1, sorted=False).indices
        flat = (feature * tokens + torch.arange(tokens, device=self.device)[:, None]).view(-1).sort().values
        score = self._exact(flat).float()
        return score.new_full((tokens,), torch.inf).scatter_reduce(0, flat % tokens, score, "amin").clamp_(min=0)

    def sample(self, rows: Tensor, stride: int) -> Tensor:
        """Returns every `stride`-th token's scores of some rows."""
        return torch.addmm(self._b_enc[rows, None], self._W_enc[rows], self._centred[::stride].t()).float()

    def _exact(self, flat: Tensor) -> Tensor:
        self.rescored += flat.numel()
        tokens = self.shape[1]
        feature = flat // tokens
        dots = self._kernels.match_dots(feature, flat - feature * tokens, self._W_enc, self._centred)
        return dots.add_(self._b_enc[feature])

    def _flat(self, place: Tensor, rows: Tensor | None) -> Tensor:
        return place if rows is None else in_block(place, rows, self.shape[1])
