"""Files and inodes are counted as a real store has them, and advice keeps a quota."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from distsae.planning.cluster.store_size import StoreShape, advised, store_size
from distsae.store import Store

BILLION = StoreShape(rows=10**9, d_in=4096)


@pytest.mark.parametrize(("rows", "unit_rows", "chunk_rows"), [(3000, 256, 64), (1000, 1000, 100), (512, 100, 100)])
def test_files_are_those_of_a_real_store(tmp_path, rows, unit_rows, chunk_rows):
    store = Store.write(
        tmp_path / "store",
        torch.randn(rows, 256).half(),
        hook="blocks.0.resid_post",
        unit_rows=unit_rows,
        chunk_rows=chunk_rows,
        heldout_share=0.0,
    )
    attributes = store.attributes
    found = store_size(
        StoreShape(
            rows=rows,
            d_in=256,
            unit_rows=unit_rows,
            chunk_rows=chunk_rows,
            context_length=attributes.context_length,
            excluded_positions=attributes.excluded_positions,
        )
    )
    paths = list((tmp_path / "store").rglob("*"))
    files = [path for path in paths if path.is_file()]
    assert (found.units, found.files, found.inodes) == (store.unit_count, len(files), len(paths))
    assert found.bytes == pytest.approx(sum(path.stat().st_size for path in files), rel=0.05)


def test_a_billion_rows_at_the_defaults():
    found = store_size(BILLION)
    assert (found.units, found.files, found.inodes) == (3815, 175_492, 358_614)
    assert found.bytes == pytest.approx(10**9 * (4096 * 2 + 28), rel=0.01)


@given(rows=some.integers(10**5, 10**10), share=some.floats(0.01, 2.0), width=some.sampled_from([512, 4096]))
def test_advice_keeps_the_quota_and_takes_nothing_smaller(rows, share, width):
    shape = replace(BILLION, rows=rows, d_in=width)
    quota = max(round(share * store_size(shape).inodes), 1)
    found = advised(shape, quota)
    if found is None:
        assert quota < store_size(shape).inodes
        return
    assert store_size(found).inodes <= quota
    assert found.unit_rows >= shape.unit_rows
    assert found.chunk_rows >= shape.chunk_rows
    assert found.unit_rows == shape.unit_rows or found.unit_rows * width * 2 <= 4 << 30
    if share >= 1:
        assert found == shape


def test_a_quota_that_nothing_keeps():
    assert advised(BILLION, 10) is None
