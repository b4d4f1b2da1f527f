"""The sums of GPU matrix units, emulated: no device is needed to see what they drop.

A matrix unit multiplies bf16 numbers exactly. It then aligns a few products and the sum so far with the largest of
them, cuts off what lies below a number of fraction bits, adds, and cuts the result off to fp32 (Fasi et al., "Numerical
behavior of NVIDIA tensor cores", 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["UNITS", "MatrixUnit"]


@dataclass(frozen=True)
class MatrixUnit:
    """A matrix unit.

    Args:
        name: what it resembles.
        terms: products that are aligned and added at a time.
        bits: fraction bits that are kept of each, counted from the largest.
    """

    name: str
    terms: int
    bits: int

    def dots(self, left: Tensor, right: Tensor) -> Tensor:
        """Returns `left[i] . right[i]` of bf16 rows `[pairs, width]` as this unit sums it, fp32 `[pairs]`."""
        products = left.double() * right.double()
        total = products.new_zeros(products.shape[0])
        for part in products.split(self.terms, 1):
            terms = torch.cat([part, total[:, None]], 1)
            unit = _power(terms.abs().amax(1), self.bits)
            total = (terms / unit[:, None]).trunc().sum(1) * unit
            last = _power(total.abs(), 23)
            total = (total / last).trunc() * last
        return total.float()


def _power(size: Tensor, bits: int) -> Tensor:
    """Returns the last of `bits` fraction bits of numbers of this size."""
    _, exponent = torch.frexp(size)
    return torch.ldexp(torch.ones_like(size), exponent - 1 - bits)


UNITS = (
    MatrixUnit("V100", 4, 23),
    MatrixUnit("A100", 8, 24),
    MatrixUnit("H100", 16, 25),
    MatrixUnit("H100, two bits fewer", 16, 23),
)
