import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.reporting.features.largest_of_rows import largest_of_rows


@given(st.lists(st.lists(st.integers(-2, 2), min_size=7, max_size=7), max_size=5), st.integers(0, 9))
def test_ties_go_to_the_smallest_column(rows, most):
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 7)
    values[values == -2] = -torch.inf
    column, value = largest_of_rows(values, most)
    assert column.shape == value.shape == (len(rows), most)
    for row, columns, found in zip(values.tolist(), column.tolist(), value.tolist(), strict=True):
        expected = sorted((c for c in range(7) if row[c] > -np.inf), key=lambda c: (-row[c], c))[:most]
        assert columns == expected + [-1] * (most - len(expected))
        assert found == [row[c] for c in expected] + [0.0] * (most - len(expected))
