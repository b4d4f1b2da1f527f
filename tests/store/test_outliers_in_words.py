"""One line where few rows carry much of the variance, and none elsewhere."""

import pytest
import torch

from distsae.store import NormHistogram, NormSummary, outliers_in_words
from distsae.store.outliers_in_words import percent

GENERATOR = torch.Generator().manual_seed(0)
ROWS = torch.randn(10_000, 16, generator=GENERATOR)


def _line(rows, position):
    return outliers_in_words("blocks.3.mlp_out", NormSummary(NormHistogram.of(rows, position, position)))


def test_rows_far_over_the_median():
    rows, position = ROWS.clone(), torch.arange(10_000) % 100
    outliers = torch.nonzero(position == 1)[:33, 0]
    rows[outliers] *= 180
    position[outliers[0]] = 7
    line = _line(rows, position)
    assert line.startswith("blocks.3.mlp_out: 33 rows (0.33%) have norms over 10 times the median (3.9")
    assert line.endswith(
        " and carry 99% of the variance, 97% of them at position 1; training leaves such rows out (max_norm_ratio)"
    )
    rows[outliers[0]] = 0.0
    assert "32 rows (0.32%)" in _line(rows, position)
    assert "of the variance, all of them at position 1; training" in _line(rows, position)


def test_one_row_and_rows_at_no_one_position():
    rows, position = ROWS.clone(), torch.arange(10_000) % 100
    rows[5] *= 180
    assert "1 row (0.01%) has a norm over 10 times" in _line(rows, position)
    assert "carries 75% of the variance, at position 5; training" in _line(rows, position)
    rows[6:9] *= 180
    assert "of the variance; training leaves" in _line(rows, position)


def test_few_rows_that_carry_much_without_being_ten_times_the_median():
    rows = ROWS[:, :1].abs() / 1000 + 1.0
    rows[0] = -7.0
    line = _line(rows, torch.arange(10_000))
    assert line.startswith("blocks.3.mlp_out: the 0.01% of rows with the largest norms (up to 7.0")
    assert line.endswith("to leave them out in training, use a smaller max_norm_ratio")


def test_ordinary_rows_give_no_line():
    assert _line(ROWS, torch.arange(10_000)) is None
    assert _line(torch.zeros(5, 2), torch.arange(5)) is None
    assert _line(torch.ones(5, 2), torch.arange(5)) is None
    assert _line(ROWS[:3], torch.arange(3)) is None  # a third of the rows, so not 0.01% that carry much


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0, "0%"),
        (1, "100%"),
        (0.636, "64%"),
        (0.0495, "5%"),
        (0.0512, "5.1%"),
        (0.0001, "0.01%"),
        (1.23e-7, "0.000012%"),
    ],
)
def test_percent(share, words):
    assert percent(share) == words
