"""The certified margin holds in emulated matrix units, on sums that are made to lose the most."""

import pytest
import torch

from distsae.kernels import PrefilterRows, prefilter_tokens, ruled_out_to
from distsae.kernels.prefilter_margins import summation_error
from tests.kernels.tensor_cores import UNITS, MatrixUnit
from tests.pretended_cuda import CUDA, pretended_cuda

PAIRS = 48
units = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)


def _pairs(kind, width):
    """Encoder rows and tokens, `[pairs, width]`, fp32."""
    generator = torch.Generator().manual_seed(width)
    rows, tokens = (torch.randn(PAIRS, width, generator=generator) for _ in range(2))
    match kind:
        case "same sign":
            rows, tokens = rows.abs(), tokens.abs()
        case "one large term first":  # all later terms are aligned with it, and cut
            rows, tokens = rows.abs(), tokens.abs()
            rows[:, 0] = 2.0**11
        case "just above a power of two":
            rows, tokens = rows.abs(), torch.full_like(tokens, 1 + 2.0**-7)
        case "cancelling":
            half = width // 2
            tokens[:, half : 2 * half] = -tokens[:, :half]
            rows[:, half : 2 * half] = rows[:, :half]
    return rows, tokens


KINDS = ("normal", "same sign", "one large term first", "just above a power of two", "cancelling")
kinds = pytest.mark.parametrize("kind", KINDS)


def _share_of_margin(unit, kind, width):
    """The largest error of a product of bf16 rows, as a share of what the prefilter allows for."""
    rows, tokens = (part.bfloat16() for part in _pairs(kind, width))
    exact = (rows.double() * tokens.double()).sum(1)
    allowed = summation_error(width, CUDA) * rows.double().norm(dim=1) * tokens.double().norm(dim=1)
    return float(((unit.dots(rows, tokens).double() - exact).abs() / allowed).max())


@units
@kinds
@pytest.mark.parametrize("width", [64, 784])
def test_the_error_of_a_sum_is_within_the_margin(unit, kind, width):
    assert _share_of_margin(unit, kind, width) < 1


def test_a_unit_that_keeps_too_little_is_found_out():
    unit = MatrixUnit("too few bits", 8, 12)
    assert max(_share_of_margin(unit, kind, 784) for kind in KINDS) > 1


@units
@kinds
def test_no_score_is_ruled_out_that_reaches_the_bound(unit, kind):
    """The whole way of a score: rows with their margins, the unit's sum, perhaps one rounding, the comparison."""
    width = 200
    rows, tokens = _pairs(kind, width)
    biases = torch.linspace(-2, 2, PAIRS)
    with pretended_cuda():
        low = PrefilterRows(PAIRS, width, CUDA)
        low.refresh(0, rows.to(CUDA), biases.to(CUDA))
        left, right = low.rows.cpu(), prefilter_tokens(tokens.to(CUDA)).cpu()
    upper = unit.dots(left, right)
    score = ((rows.double() * tokens.double()).sum(1) + biases.double()).float()
    positive = score > 0
    assert (upper >= score)[positive].all()  # as one bit a score is taken from the sum itself
    assert (upper.bfloat16() > ruled_out_to(score))[positive].all()
    assert positive.any()
