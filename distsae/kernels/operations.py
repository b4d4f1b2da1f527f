"""The seam: what a step asks of a device, one operation at a time.

Everything that costs time in a step goes through these operations, so that each has one plain statement
(`reference.py`) and as many fast versions as there are devices, tested for equality with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from distsae.allocation import Matches

__all__ = ["AdamRows", "AdamStep", "Kernels"]


@dataclass(frozen=True)
class AdamStep:
    """The numbers of one step of Adam.

    Args:
        step: how many steps there are with this one.
        lr: learning rate.
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of their squares.
        eps: added to the root of the second moment.
    """

    step: int
    lr: float
    beta1: float
    beta2: float
    eps: float


class AdamRows(Protocol):
    """Adam on tensors of one shape each, in place."""

    def __call__(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        numbers: AdamStep,
    ) -> None:
        """Updates moments and parameters (Kingma and Ba, arXiv 1412.6980, Algorithm 1)."""
        ...


@dataclass(frozen=True)
class Kernels:
    """One version of every operation.

    Args:
        name: what it is called.
        upper_scores: `(rows, columns, out)`: writes `rows @ columns.T` of bf16 matrices `[features, width]` and
            `[tokens, width]` into bf16 `[features, tokens]`, summed in fp32 and rounded once.
        above: `(scores, bound)`: flat indices, ascending int64, of the entries of a contiguous bf16 matrix that are
            larger than `bound`, bf16, not negative, which expands to it. Whatever is not a number is larger.
        decode: `(by_token, W_dec, tokens)`: sum over a token's matches, sorted by token, of `score * W_dec[feature]`,
            `[tokens, d_in]`.
        match_dots: `(feature, token, rows, vectors)`: `rows[feature] . vectors[token]` for each pair, `[pairs]`; pairs
            are sorted by feature. Equal for a pair whatever the others are, bit for bit.
        row_sums: `(starts, index, weight, vectors)`: for each row the sum over `starts[row] <= i < starts[row + 1]`
            of `weight[i] * vectors[index[i]]`, in this order, `[rows, d_in]`: a row gradient.
        adam: one step of Adam.
    """

    name: str
    upper_scores: Callable[[Tensor, Tensor, Tensor], None]
    above: Callable[[Tensor, Tensor], Tensor]
    decode: Callable[[Matches, Tensor, int], Tensor]
    match_dots: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    row_sums: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    adam: AdamRows
