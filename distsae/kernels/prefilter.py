"""A bf16 product that certifies which scores cannot be selected; the others are computed in fp32.

Let `w` be a feature's encoder row, `x` a centred token, and `w^`, `x^` the same rounded to bf16. Then

    w . x = w^ . x^ + (w - w^) . x^ + w . (x - x^)  <=  w^ . x^ + |w - w^| |x^| + |w| |x - x^|

The two margins, and the bias, are products too: with four more columns in both matrices, rounded up, one bf16 product
is an upper bound of every score. A score whose upper bound is below the selector's lower bound is ruled out. Every
other score is computed by a dot product of its own. So a selection from these scores is one from fp32 scores, the same
bit for bit however the features are cut into chunks and the tokens are split over ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from distsae.allocation.scores import feature_and_token, in_chunk, smallest_of_first
from distsae.allocation.segments import smallest_per_segment
from distsae.kernels.operations import Kernels
from distsae.kernels.prefilter_margins import COLUMNS, FLUSHED, MARGIN, ROUND_UP, TINY, bias_error, summation_error
from distsae.kernels.upper_bounds import UpperBounds, ruled_out_to

__all__ = [
    "PrefilterName",
    "PrefilterRows",
    "PrefilteredScores",
    "plain_scores_at",
    "prefilter_tokens",
    "prefilter_wanted",
]

PrefilterName = Literal["auto", "bf16", "none"]

_ALIGNMENT = 16
"""The width of the matrices is a multiple of this."""

_LARGEST = 2.0**120
"""Scores and bounds that are certified to be below this cannot overflow."""


def prefilter_wanted(name: PrefilterName, device: torch.device) -> bool:
    """Returns whether scores are prefiltered on a device; with `auto` they are if it multiplies bf16 natively."""
    if name != "auto":
        return name == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


class PrefilterRows:
    """The bf16 copy of a shard's encoder rows, with the columns that bound scores from above.

    Args:
        features: number of encoder rows.
        d_in: width of the activations.
        device: device of the copy.

    Attributes:
        rows: bf16 `[features, width]`: the row, the bias in two parts, the norm of the row, the norm of its rounding
            error, zeros.
    """

    def __init__(self, features: int, d_in: int, device: torch.device) -> None:
        self.d_in = d_in
        width = -(-(d_in + COLUMNS) // _ALIGNMENT) * _ALIGNMENT
        self.rows = torch.zeros(features, width, dtype=torch.bfloat16, device=device)

    @staticmethod
    def of(rows: Tensor, d_in: int) -> PrefilterRows:
        """Returns the copy whose `rows` are these, for rows `d_in` wide."""
        copy = PrefilterRows(0, d_in, rows.device)
        copy.rows = rows
        return copy

    def refresh(self, first: int, W_enc: Tensor, b_enc: Tensor) -> None:
        """Copies some encoder rows and their biases.

        Args:
            first: local index of the first feature.
            W_enc: encoder rows from this feature on, fp32 `[n, d_in]`.
            b_enc: their biases, fp32 `[n]`.
        """
        rows = self.rows[first : first + W_enc.shape[0]]
        error = summation_error(self.d_in, self.rows.device)
        rounded = rows[:, : self.d_in]
        rounded.copy_(W_enc)
        norm = _norms(W_enc)
        rounding_norm = _norms(rounded.to(W_enc.dtype).sub_(W_enc))
        coarse = b_enc.bfloat16()
        rest = b_enc - coarse.to(b_enc.dtype) + bias_error(error) * b_enc.abs() + TINY
        row_margin = norm * MARGIN
        rounding_margin = (rounding_norm + 2.5 * error * norm) * MARGIN
        rows[:, self.d_in] = coarse
        rows[:, self.d_in + 1 : self.d_in + COLUMNS] = torch.stack([rest, row_margin, rounding_margin], 1).bfloat16()

    def certifies(self, columns: Tensor) -> bool:
        """Returns whether every score of the tokens `columns`, and every bound of one, is certain to be finite."""
        return bool(self.certain(columns))

    def certain(self, columns: Tensor) -> Tensor:
        """Returns what `certifies` does, on the device: bool `[]`."""
        biases = self.rows[:, self.d_in]
        norms = self.rows[:, self.d_in + 2]
        longest = norms.float().max() * columns[:, self.d_in + 3].float().max()
        return longest + biases.float().abs().max() < _LARGEST


def prefilter_tokens(centred: Tensor) -> Tensor:
    """Returns the other matrix of the product that bounds the scores.

    Args:
        centred: activations minus `b_dec`, `[tokens, d_in]`.

    Returns:
        bf16 `[tokens, width]`: the activation, 1 twice, the norm of its rounding error, the norm of the activation,
        zeros.
    """
    tokens, d_in = centred.shape
    columns = PrefilterRows(tokens, d_in, centred.device).rows
    rounded = columns[:, :d_in]
    rounded.copy_(centred)
    widened = rounded.to(centred.dtype)
    norm = torch.maximum(_norms(centred), _norms(widened))
    rounding_norm = _norms(widened.sub_(centred))
    columns[:, d_in : d_in + 2] = 1
    columns[:, d_in + 2 : d_in + COLUMNS] = (torch.stack([rounding_norm, norm], 1) * ROUND_UP).bfloat16()
    return columns


def _norms(rows: Tensor) -> Tensor:
    """Returns upper bounds of the norms of some rows, but for rounding."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms.add_(FLUSHED * rows.shape[1] ** 0.5)


class PrefilteredScores:
    """A chunk of scores of which only those that may matter are computed; see `distsae.allocation.Scores`.

    Args:
        kernels: kernels that compare bounds and compute scores.
        upper: upper bounds of the scores, which are all certified to be finite.
        W_enc: encoder rows of the chunk, `[features, d_in]`.
        b_enc: encoder biases of the chunk, `[features]`.
        centred: activations minus `b_dec`, `[tokens, d_in]`.
        doubt: whether bounds may not be finite after all, bool `[]`; None if they are certain to be.
        of_features: returns scores of other features, given their local indices.

    Attributes:
        doubt: as given.
        of_features: as given.
        rescored: number of scores that were computed exactly so far.
    """

    def __init__(
        self,
        kernels: Kernels,
        upper: UpperBounds,
        W_enc: Tensor,
        b_enc: Tensor,
        centred: Tensor,
        doubt: Tensor | None = None,
        of_features: Callable[[Tensor], PrefilteredScores] | None = None,
    ) -> None:
        self.doubt = doubt
        self.of_features = of_features
        self._kernels = kernels
        self._upper = upper
        self._W_enc = W_enc
        self._b_enc = b_enc
        self._centred = centred
        self.rescored = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Number of features and of tokens."""
        return self._upper.shape

    @property
    def device(self) -> torch.device:
        """Device of the scores."""
        return self._upper.device

    def non_finite(self) -> int:
        """Returns 0: `PrefilterRows.certifies` ruled out others before the bounds were computed."""
        return 0

    def above(self, bound: Tensor, rows: Tensor | None = None, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Finds the positive scores that are at least a bound; see `Scores.above`."""
        upper = self._upper.matrix() if rows is None else self._upper.matrix()[rows]
        flat_in_rows = self._kernels.above(upper, ruled_out_to(bound))
        if most is not None and flat_in_rows.numel() > 2 * most > 0:
            # The chunk alone proves a higher bound: the smallest of `most` exact scores.
            likely = flat_in_rows[upper.view(-1)[flat_in_rows].topk(most, sorted=False).indices].sort().values
            bound = bound.clamp(min=float(self._exact(self._in_chunk(likely, rows)).min().float()))
            flat_in_rows = self._kernels.above(upper, ruled_out_to(bound))
        flat = self._in_chunk(flat_in_rows, rows)
        score = self._exact(flat)
        if bound.numel() > 1:
            bound = bound.expand(upper.shape)[feature_and_token(flat_in_rows, upper.shape[1])]
        kept = ((score.float() >= bound.view(-1)) & (score > 0)).nonzero().squeeze(1)
        return flat[kept], score[kept]

    def cutoff(self, bound: Tensor) -> Tensor:
        """Returns what `within` compares upper bounds with; see `Scores.cutoff`."""
        return ruled_out_to(bound)

    def within(self, cutoff: Tensor, bound: Tensor, places: int) -> tuple[Tensor, Tensor]:
        """Finds the positive scores that are at least a bound; see `Scores.within`."""
        flat = self._upper.places_above(cutoff, bound, places)
        return flat, self._positive_at(flat, bound)

    def leading(self, k: int) -> Tensor:
        """Returns the smallest of each token's `k` scores with the largest upper bounds; see `Scores.leading`."""
        tokens = self.shape[1]
        feature = self._upper.matrix().t().topk(k, dim=1, sorted=False).indices
        flat = feature * tokens + torch.arange(tokens, device=self.device)[:, None]
        if self._kernels.scores_at is not None:  # in any order
            return self._positive_at(flat.view(-1), None).view(tokens, k).float().amin(1)
        flat = flat.view(-1).sort().values
        return smallest_per_segment(flat % tokens, self._exact(flat).float(), tokens).clamp_(min=0)

    def leading_of_features(self, quotas: Tensor, most: int) -> Tensor:
        """Returns the smallest of each feature's scores with the largest bounds; see `Scores.leading_of_features`."""
        features, tokens = self.shape
        token = self._upper.matrix().topk(most, dim=1).indices
        flat = token + (torch.arange(features, device=self.device) * tokens)[:, None]
        return smallest_of_first(self._positive_at(flat.view(-1), None).view(features, most).float(), quotas)

    def sample(self, rows: Tensor, stride: int) -> Tensor:
        """Returns the scores of the features `rows` for every `stride`-th token; see `Scores.sample`."""
        return torch.addmm(self._b_enc[rows, None], self._W_enc[rows], self._centred[::stride].t()).float()

    def _positive_at(self, flat: Tensor, bound: Tensor | None) -> Tensor:
        """Returns the exact scores at some flat indices; 0 in empty places, and where they do not reach the bound."""
        self.rescored += flat.numel()
        if bound is None:
            bound = torch.zeros(1, 1, device=self.device)
        operands = (flat, self._W_enc, self._b_enc, self._centred, bound)
        if self._kernels.scores_at is not None:
            return self._kernels.scores_at(*operands)
        return plain_scores_at(self._kernels.match_dots, *operands)

    def _exact(self, flat: Tensor) -> Tensor:
        """Returns the exact scores at some flat indices, which are ascending."""
        self.rescored += flat.numel()
        feature, token = feature_and_token(flat, self.shape[1])
        dots = self._kernels.match_dots(feature, token, self._W_enc, self._centred)
        return dots.add_(self._b_enc[feature])

    def _in_chunk(self, flat_in_rows: Tensor, rows: Tensor | None) -> Tensor:
        return flat_in_rows if rows is None else in_chunk(flat_in_rows, rows, self.shape[1])


def plain_scores_at(
    match_dots: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    flat: Tensor,
    rows: Tensor,
    biases: Tensor,
    vectors: Tensor,
    bound: Tensor,
) -> Tensor:
    """Computes what `Kernels.scores_at` does, by `Kernels.match_dots`, which takes pairs sorted by feature."""
    pairs = rows.shape[0] * vectors.shape[0]
    feature, token = feature_and_token(flat.clamp(max=pairs - 1), vectors.shape[0])
    score = match_dots(feature, token, rows, vectors).add_(biases[feature])
    least = bound.view(-1) if bound.numel() == 1 else bound[feature, 0]
    return score.masked_fill_(~((flat < pairs) & (score >= least) & (score > 0)), 0.0)
