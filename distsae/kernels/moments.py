"""Storage of Adam's two moments of a parameter between updates, by name: in fp32, in bf16, or in 8 bits per number.

How numbers are rounded: `kept_moments.py`. The random bits do not depend on the mesh: `rounding_noise.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from distsae.kernels.kept_moments import KeptMoments, block_length
from distsae.kernels.rounding_noise import RoundingNoise

__all__ = ["Moments", "MomentsName", "moments_of"]

MomentsName = Literal["fp32", "bf16", "int8"]


class Moments:
    """The first moment (mean of the gradients) and the second (mean of their squares) of one parameter.

    Args:
        kept: the tensors that hold them.
        noise: random bits for their rounding; None if they are not rounded.
    """

    def __init__(self, kept: KeptMoments, noise: RoundingNoise | None) -> None:
        self._kept = kept
        self._noise = noise

    def read(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Returns both moments of some rows, in the dtype of the update; live tensors if they are not rounded."""
        return self._kept.of(rows).read()

    def write(self, rows: slice, mean: Tensor, square: Tensor, step: int) -> None:
        """Stores both moments of some rows after an update.

        Args:
            rows: the rows that were read.
            mean: updated first moment; may be overwritten.
            square: updated second moment; may be overwritten.
            step: number of the update, counted from 1.
        """
        if self._noise is not None:
            self.kept(step).of(rows).write(mean, square)

    def kept(self, step: int) -> KeptMoments:
        """Returns the live tensors of all rows, with the words that round them in one step."""
        if self._noise is None:
            return self._kept
        row_words, column_words = self._noise.words(step)
        return replace(self._kept, row_words=row_words, column_words=column_words)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live tensors by name, one row per local feature.

        In 8 bits they are codes and scales; those of `exp_avg_sq` are of roots of the second moment.
        """
        kept = self._kept
        found = {
            "exp_avg": kept.mean,
            "exp_avg_scale": kept.mean_scale,
            "exp_avg_sq": kept.square,
            "exp_avg_sq_scale": kept.square_scale,
        }
        return {name: tensor for name, tensor in found.items() if tensor is not None}


def moments_of(name: str, parameter: Tensor, kind: MomentsName, first_row: int, seed: int) -> Moments:
    """Returns moments of zero for a parameter.

    In bf16 both take 4 bytes for each number of the parameter, instead of 8; in 8 bits they take 2, and two fp32 scales
    for each block of a row.

    Args:
        name: name of the parameter.
        parameter: this rank's rows of the parameter. The moments of a vector are small, and always in fp32.
        kind: storage of the moments of a matrix.
        first_row: global index of the first row.
        seed: seed of the run.
    """
    if kind == "fp32" or parameter.dim() < 2:
        return Moments(KeptMoments(torch.zeros_like(parameter), torch.zeros_like(parameter)), None)
    noise = RoundingNoise(name, parameter, first_row, seed)
    dtype = torch.bfloat16 if kind == "bf16" else torch.uint8
    kept = KeptMoments(torch.zeros_like(parameter, dtype=dtype), torch.zeros_like(parameter, dtype=dtype))
    if kind == "int8":
        features, d_in = parameter.shape
        blocks = d_in // block_length(d_in)
        scales = [parameter.new_zeros(features, blocks, dtype=torch.float32) for _ in range(2)]
        kept = replace(kept, mean_scale=scales[0], square_scale=scales[1])
    return Moments(kept, noise)
