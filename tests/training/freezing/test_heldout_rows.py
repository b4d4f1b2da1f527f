"""Held-out rows: some calibrate, others judge, and data ranks share even a few of them without leaving one out."""

import pytest
import torch

from distsae.store import Store
from distsae.training.freezing.heldout_rows import heldout_rows, mesh_for_rows
from tests.distributed.processes import run_on_mesh
from tests.store import synthetic

HOOK = "blocks.0.resid_post"


def _all(store):
    return torch.cat([store.read_chunk(HOOK, chunk) for chunk in store.chunks("heldout")])


def test_one_half_calibrates_and_the_other_judges(tiny_store):
    store = Store.open(tiny_store)
    calibration_rows, judging_rows = heldout_rows(store, HOOK)
    assert (len(calibration_rows), len(judging_rows)) == (128, 128)
    assert torch.equal(torch.cat([calibration_rows, judging_rows]), _all(store)[:256])


def test_no_more_is_read_than_is_asked_for(tiny_store):
    parts = heldout_rows(Store.open(tiny_store), HOOK, calibration_tokens=128, judging_tokens=64)
    assert [len(rows) for rows in parts] == [128, 64]


@pytest.mark.parametrize(("contexts", "rows"), [(0, 0), (1, 8), (4, 32)])
def test_very_few_rows_serve_both_purposes(contexts, rows, tmp_path):
    store = synthetic.write_store(tmp_path / "store", synthetic.attributes(heldout_contexts=contexts))
    calibration_rows, judging_rows = heldout_rows(store, "a.b")
    assert calibration_rows.shape == judging_rows.shape == (rows, 6)
    assert torch.equal(calibration_rows, judging_rows)


def _sums(mesh, rows):
    divided = mesh_for_rows(mesh, rows)
    share = rows // divided.data.size
    return float(divided.data.sum(torch.arange(rows)[divided.data.rank * share :][:share].sum())), divided.world.size


@pytest.mark.parametrize(("rows", "ranks"), [(3, 2), (64, 4), (1, 2)])
def test_every_row_counts_once_on_any_data_axis(rows, ranks):
    assert run_on_mesh(_sums, (2, 2), rows) == [(rows * (rows - 1) / 2, ranks)] * 4
