"""Rows with many entries are summed in segments, in one order: on a GPU, or with `TRITON_INTERPRET=1` on a CPU.

Segments have 8 entries here, so that a few numbers fill many of them. `test_triton_segments.py` runs this in a process
of its own.
"""

import pytest
import torch
import triton
import triton.language as tl

from distsae.kernels import (
    AdamStep,
    RowTerm,
    UpdatedRows,
    moments_of,
    triton_gradients,
    triton_segments,
    triton_sums,
    triton_update,
)
from distsae.kernels.plain_update import plain_update
from distsae.kernels.triton_segments import segment_in, slot_of, slots_for
from distsae.kernels.triton_sums import row_sums
from distsae.kernels.triton_update import update_rows

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SEGMENT = 8
COUNTS = (
    (0, 3, 60, 0, 0, 9, 8, 1),
    (17, 17, 17),
    (8, 8, 9, 8),
    (0, 0, 0, 41),
    (41, 0, 0, 0),
    (7, 16, 7, 16, 1, 33, 2),
    (1, 2, 3),
    (9,),
)
"""Entries of each row: hot rows first, last, in between and next to each other, around multiples of a segment."""
skewed = pytest.mark.parametrize("counts", COUNTS, ids=str)


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    for module in (triton_segments, triton_sums, triton_gradients, triton_update):
        monkeypatch.setattr(module, "SEGMENT", SEGMENT)


def _starts(counts):
    return torch.tensor([0, *counts]).cumsum(0).to(DEVICE)


@triton.jit
def _segments(starts, found, rows, SEGMENT: tl.constexpr):
    slot = tl.program_id(0).to(tl.int64)
    start, end = segment_in(slot, starts, rows, SEGMENT)
    tl.store(found + 2 * slot, start)
    tl.store(found + 2 * slot + 1, end)


@triton.jit
def _slots(firsts, starts, found, SEGMENT: tl.constexpr):
    at = tl.program_id(0)
    tl.store(found + at, slot_of(tl.load(firsts + at), tl.load(starts + at), SEGMENT))


@skewed
def test_each_segment_of_a_long_row_has_a_slot_of_its_own(counts):
    starts = _starts(counts)
    slots = slots_for(int(starts[-1]))
    expected = {}
    for first, last in zip(starts.tolist(), starts[1:].tolist(), strict=False):
        if last - first > SEGMENT:
            expected |= {(start, min(start + SEGMENT, last)): first for start in range(first, last, SEGMENT)}
    if not slots:
        assert not expected
        return
    found = torch.full((slots, 2), -1, device=DEVICE)
    _segments[(slots,)](starts, found, len(counts), SEGMENT)
    held = {(start, end): slot for slot, (start, end) in enumerate(found.tolist()) if start < end}
    assert held.keys() == expected.keys()
    assert sum(start < end for start, end in found.tolist()) == len(expected), "a segment has two slots"
    if not expected:
        return
    firsts = torch.tensor(list(expected.values()), device=DEVICE)
    begins = torch.tensor([start for start, _ in expected], device=DEVICE)
    slot = torch.empty_like(firsts)
    _slots[(len(firsts),)](firsts, begins, slot, SEGMENT)
    assert slot.tolist() == [held[segment] for segment in expected]


def _in_segments(index, weight, vectors):
    """The sum of one row, written down: segments first, then their sums, each in order."""
    if len(index) <= SEGMENT:
        return sum((w * vectors[i] for w, i in zip(weight, index, strict=True)), torch.zeros_like(vectors[0]))
    parts = [
        _in_segments(index[at : at + SEGMENT], weight[at : at + SEGMENT], vectors)
        for at in range(0, len(index), SEGMENT)
    ]
    return sum(parts, torch.zeros_like(vectors[0]))


@skewed
def test_a_sum_is_that_of_its_segments_in_order(counts):
    generator = torch.Generator().manual_seed(sum(counts))
    starts = _starts(counts)
    total = int(starts[-1])
    index = torch.randint(6, (total,), generator=generator)
    weight, vectors = torch.randn(total, generator=generator), torch.randn(6, 5, generator=generator)
    expected = torch.stack(
        [
            _in_segments(index[first:last], weight[first:last], vectors)
            for first, last in zip(starts.tolist(), starts[1:].tolist(), strict=False)
        ]
    )
    operands = [part.to(DEVICE) for part in (index, weight, vectors)]
    found = row_sums(starts, *operands)
    if DEVICE.type == "cpu":  # a GPU multiplies and adds with one rounding
        assert torch.equal(found, expected)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(row_sums(starts, *operands), found)
    half = len(counts) // 2  # some of the rows, among the entries of all, and on their own
    assert torch.equal(row_sums(starts[half:], *operands), found[half:])
    own = [*(part[int(starts[half]) :] for part in operands[:2]), operands[2]]
    assert torch.equal(row_sums(starts[half:] - starts[half], *own), found[half:])


def _rows(features, width):
    generator = torch.Generator().manual_seed(width)
    weights = [torch.randn(shape, generator=generator).to(DEVICE) for shape in ((features, width), (features,))]
    parts = (weights[0], weights[0] / weights[0].norm(dim=1, keepdim=True), weights[1])
    kept = [(part.clone(), moments_of(str(at), part, "fp32", 0, 0).kept(1)) for at, part in enumerate(parts)]
    return UpdatedRows(kept[0], kept[1], kept[2], None)


@pytest.mark.parametrize("counts", COUNTS[:2], ids=str)
def test_the_update_sums_its_gradients_in_segments(counts):
    """With a second term whose counts are turned around; a feature's bits do not depend on the other features."""
    width, features = 20, len(counts)
    generator = torch.Generator().manual_seed(features)
    centred = torch.randn(6, width, generator=generator).to(DEVICE)

    def term(counts):
        number = sum(counts)
        dots, score = (torch.randn(number, generator=generator).to(DEVICE) for _ in range(2))
        token = torch.randint(6, (number,), generator=generator).to(DEVICE)
        return RowTerm(_starts(counts), token, dots, score, torch.randn(6, width, generator=generator).to(DEVICE))

    terms = [term(counts), term(counts[::-1])]
    b_gradient = torch.randn(features, generator=generator).to(DEVICE)
    numbers = AdamStep(1, 0.01, 0.8, 0.95, 1e-6, 3.0)
    found, again, expected, some = (_rows(features, width) for _ in range(4))
    energy = update_rows(terms, centred, b_gradient, found, numbers, 0.5)
    torch.testing.assert_close(energy, plain_update(terms, centred, b_gradient, expected, numbers, 0.5))
    assert torch.equal(update_rows(terms, centred, b_gradient, again, numbers, 0.5), energy)
    half = slice(features // 2, None)
    of_half = [one._replace(starts=one.starts[half.start :]) for one in terms]
    parts = [(numbers[half], kept.of(half)) for numbers, kept in (some.W_enc, some.W_dec, some.b_enc)]
    update_rows(of_half, centred, b_gradient[half], UpdatedRows(parts[0], parts[1], parts[2], None), numbers, 0.5)
    for name in ("W_enc", "W_dec", "b_enc"):
        numbers_found, kept = getattr(found, name)
        torch.testing.assert_close(numbers_found, getattr(expected, name)[0], rtol=1e-4, atol=1e-5)
        assert torch.equal(getattr(again, name)[0], numbers_found)
        assert torch.equal(getattr(some, name)[0][half], numbers_found[half])
        assert torch.equal(getattr(some, name)[1].square[half], kept.square[half])
