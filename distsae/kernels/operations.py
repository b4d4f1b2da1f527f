"""The interface between a step and a device, one operation at a time.

Everything that costs time in a step goes through these operations. Each has one plain version (`reference.py`), and a
fast version for each kind of device, which is tested against the plain one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from distsae.allocation import Matches
from distsae.kernels.kept_moments import KeptMoments

__all__ = ["AdamRows", "AdamStep", "Kernels", "RowTerm", "UpdateRows", "UpdatedRows"]


@dataclass(frozen=True)
class AdamStep:
    """The numbers of one step of Adam.

    Args:
        step: number of the step, counted from 1.
        lr: learning rate.
        beta1: decay of the running mean of the gradients.
        beta2: decay of the running mean of the squared gradients.
        eps: number that is added to the root of the second moment.
        decoder_rate: learning rate of decoder rows as a multiple of `lr`, for a whole update (`UpdateRows`).
    """

    step: int
    lr: float
    beta1: float
    beta2: float
    eps: float
    decoder_rate: float = 1.0


class AdamRows(Protocol):
    """One step of Adam, in place, on lists of tensors: entry `i` of each list belongs to parameter `i`."""

    def __call__(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        numbers: AdamStep,
    ) -> None:
        """Updates the moments and the parameters (Kingma and Ba, arXiv 1412.6980, Algorithm 1).

        Args:
            parameters: parameters to update.
            gradients: gradient of each parameter, in its shape.
            exp_avgs: running mean of each parameter's gradients, in its shape.
            exp_avg_sqs: running mean of each parameter's squared gradients, in its shape.
            numbers: learning rate, decays and number of the step.
        """
        ...


class RowTerm(NamedTuple):
    """What one reconstruction contributes to the gradients of rows; see `distsae.training.step.Gradients`.

    The rows may be some of many: the matches then go on before and after theirs.

    Args:
        starts: index of each row's first match, and at the end that of the next row, int64 `[features + 1]`.
        token: token of each match, int64 `[matches]`.
        dots: factor of `centred[token]` in the gradient of the encoder row, `[matches]`.
        score: factor of `g[token]` in the gradient of the decoder row, `[matches]`.
        g: gradient of the loss with respect to the reconstruction, `[tokens, d_in]`.
    """

    starts: Tensor
    token: Tensor
    dots: Tensor
    score: Tensor
    g: Tensor


@dataclass(frozen=True)
class UpdatedRows:
    """What an update changes, in place: contiguous, one row per feature, parameters in fp32.

    Args:
        W_enc: encoder rows, `[features, d_in]`, and their moments.
        W_dec: decoder rows, `[features, d_in]`, and their moments, kept as those of `W_enc` are.
        b_enc: encoder biases, `[features]`, and their moments in fp32.
        low: the prefilter's copy of the encoder rows (`PrefilterRows.rows`); None without one.
    """

    W_enc: tuple[Tensor, KeptMoments]
    W_dec: tuple[Tensor, KeptMoments]
    b_enc: tuple[Tensor, KeptMoments]
    low: Tensor | None


class UpdateRows(Protocol):
    """A whole update of all rows in one operation."""

    def __call__(
        self,
        terms: list[RowTerm],
        centred: Tensor,
        b_gradient: Tensor,
        rows: UpdatedRows,
        numbers: AdamStep | None,
        scale: float,
    ) -> Tensor:
        """Sums the row gradients, projects those of the decoder, measures them, and updates everything of a feature.

        Args:
            terms: one or two terms of the gradients.
            centred: `x - b_dec`, `[tokens, d_in]`.
            b_gradient: gradient of `b_enc`, `[features]`.
            rows: what is updated: weights by Adam, decoder rows back to unit norm, then the prefilter's copy.
            numbers: numbers of the Adam step; with None the gradients are only measured.
            scale: factor for the gradients that Adam gets.

        Returns:
            Squared norm of each feature's gradients with respect to both rows, without `scale`, `[features]`.
        """
        ...


@dataclass(frozen=True)
class Kernels:
    """One version of every operation.

    Args:
        name: name of the version.
        upper_scores: `(rows, columns, out)`: writes `rows @ columns.T` of bf16 matrices `[features, width]` and
            `[tokens, width]` into `out`, bf16 `[features, tokens]`; summed in fp32 and rounded once.
        above: `(scores, bound)`: flat indices, int64, ascending, of the entries of `scores`, a contiguous bf16 matrix,
            that are larger than `bound`, which is bf16, not negative, and expands to the matrix. NaN counts as larger.
        decode: `(by_token, W_dec, tokens)`: the sum of `score * W_dec[feature]` over the matches of each token,
            `[tokens, d_in]`; the matches are sorted by token.
        match_dots: `(feature, token, rows, vectors)`: `rows[feature] . vectors[token]` of each pair, `[pairs]`; the
            pairs are sorted by feature. The bits of a result do not depend on the other pairs.
        row_sums: `(starts, index, weight, vectors)`: for each row, the sum of `weight[i] * vectors[index[i]]` over
            `starts[row] <= i < starts[row + 1]`, in this order, `[rows, d_in]`: a row gradient. The rows may be some of
            many: `index` and `weight` then go on before and after theirs.
        adam: one step of Adam.
        update_rows: a whole update of fp32 rows; None where the operations above do it faster, block by block.
        scores_at: `(flat, rows, biases, vectors, bound)`: for each place, given `feature * tokens + token`, the score
            `rows[feature] . vectors[token] + biases[feature]` if it is positive and at least `bound[feature, 0]`, or 0;
            0 also where the index is past the last pair. `bound` has one row, or one for each feature. The dot products
            are those of `match_dots`. None where these do as well.
        places_above: `(rows, columns, bound, places)`: flat indices `feature * tokens + token`, int64 `[places]`,
            ascending, of the first pairs whose product `rows[feature] . columns[token]` of bf16 rows, in fp32, is
            positive and at least `bound`, fp32 `[1, 1]` or `[features, 1]`; `EMPTY` in other places. The CPU
            does not wait for it. None where `upper_scores` and a comparison do as well.
    """

    name: str
    upper_scores: Callable[[Tensor, Tensor, Tensor], None]
    above: Callable[[Tensor, Tensor], Tensor]
    decode: Callable[[Matches, Tensor, int], Tensor]
    match_dots: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    row_sums: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    adam: AdamRows
    update_rows: UpdateRows | None = None
    scores_at: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] | None = None
    places_above: Callable[[Tensor, Tensor, Tensor, int], Tensor] | None = None
