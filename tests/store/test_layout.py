import numpy as np
import pytest
import torch

from distsae.store import StorePaths
from distsae.store.layout import DTYPES, chunk_count


def test_names(tmp_path):
    paths = StorePaths(tmp_path)
    assert paths.commit(123) == tmp_path / "commits" / "unit-000123.json"
    assert paths.attempt("unit-000123/x") == tmp_path / "data" / "unit-000123" / "x"


@pytest.mark.parametrize(("rows", "chunks"), [(0, 0), (1, 1), (8, 1), (9, 2)])
def test_chunk_count(rows, chunks):
    assert chunk_count(rows, 8) == chunks


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_the_fill_value_is_not_a_number(dtype):
    fill = torch.from_numpy(np.full(1, dtype.fill, dtype.numpy)).view(dtype.torch)
    assert fill.isnan().all()
    assert dtype.torch.itemsize == dtype.numpy.itemsize
