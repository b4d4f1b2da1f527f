"""Held-out rows: which calibrate, which judge, and how few of them are shared."""

import pytest
import torch

from distsae.store import Store
from distsae.training.freezing.heldout_rows import heldout_rows, mesh_for
from tests.distributed.processes import run_on_mesh
from tests.store import synthetic

HOOK = "blocks.0.resid_post"


def _all(store):
    return torch.cat([store.read_chunk(HOOK, chunk) for chunk in store.chunks("heldout")])


def test_one_half_calibrates_and_the_other_judges(tiny_store):
    store = Store.open(tiny_store)
    seen, unseen = heldout_rows(store, HOOK)
    assert (len(seen), len(unseen)) == (128, 128)
    assert torch.equal(torch.cat([seen, unseen]), _all(store)[:256])


def test_no_more_is_read_than_is_asked_for(tiny_store):
    seen, unseen = heldout_rows(Store.open(tiny_store), HOOK, calibration_tokens=128, judging_tokens=64)
    assert (len(seen), len(unseen)) == (128, 64)


@pytest.mark.parametrize(("contexts", "rows"), [(0, 0), (1, 8), (4, 32)])
def test_hardly_any_rows_serve_for_both(contexts, rows, tmp_path):
    store = synthetic.write_store(tmp_path / "store", synthetic.attributes(heldout_contexts=contexts))
    seen, unseen = heldout_rows(store, "a.b")
    assert seen.shape == unseen.shape == (rows, 6)
    assert torch.equal(seen, unseen)


def _sums(mesh, rows):
    sharing = mesh_for(mesh, rows)
    share = rows // sharing.data.size
    return float(sharing.data.sum(torch.arange(rows)[sharing.data.rank * share :][:share].sum())), sharing.world.size


@pytest.mark.parametrize(("rows", "ranks"), [(3, 2), (64, 4), (1, 2)])
def test_no_row_is_left_out_and_none_counts_twice(rows, ranks):
    assert run_on_mesh(_sums, (2, 2), rows) == [(rows * (rows - 1) / 2, ranks)] * 4
