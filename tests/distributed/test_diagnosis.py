"""Two real ranks, one of them with broken numbers: both stop, and both report that rank and the numbers."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from pathlib import Path

import pytest
from safetensors.torch import load_file

from distsae.checkpoint import newest
from distsae.errors import Diverged
from distsae.parallel import Mesh
from distsae.training import CheckpointConfig, TrainConfig
from tests.distributed.meshed_runs import Layout, trained
from tests.distributed.processes import run_on_mesh
from tests.training.broken_numbers import broken_gradient, broken_weights, store_with_broken_row
from tests.training.sample_runs import config_of

DATA_PARALLEL = Layout((2, 1))
LAYOUTS = [Layout((1, 2)), DATA_PARALLEL, Layout((2, 1), divided=True), Layout((2, 1), zero=2), Layout((1, 2), zero=1)]


def _config(store: Path, out: Path, layout: Layout) -> TrainConfig:
    return layout.of(config_of(store, out, aux="none", checkpoint=CheckpointConfig(every=2, keep_last=9)))


def _diverges(mesh: Mesh, config: TrainConfig) -> str:
    with pytest.raises(Diverged) as stopped:
        trained(mesh, config)
    return str(stopped.value)


def _broken_weights(mesh: Mesh, config: TrainConfig, name: str) -> str:
    with broken_weights(1, at_step=4, name=name):
        return _diverges(mesh, config)


def _broken_gradient(mesh: Mesh, config: TrainConfig, value: float) -> str:
    with broken_gradient(at_step=3, value=value) if mesh.world.rank == 1 else nullcontext():
        return _diverges(mesh, config)


def _bundle(out: Path, step: int, rank: int) -> tuple[dict, dict]:
    folder = out / "diagnosis" / f"step-{step:08d}"
    return json.loads((folder / f"rank-{rank:05d}.json").read_text()), load_file(
        folder / f"rank-{rank:05d}.safetensors"
    )


def _skip_without_deepspeed(layout: Layout) -> None:
    if layout.zero is not None:
        pytest.importorskip("deepspeed")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_broken_weight_of_one_rank(layout, tiny_store, tmp_path):
    _skip_without_deepspeed(layout)
    config = _config(tiny_store, tmp_path / "run", layout)
    errors = run_on_mesh(_broken_weights, layout.shape, config, "W_enc")
    assert errors[0] == errors[1]
    assert errors[0].startswith("step 5: ")
    assert "not finite on rank 1 (host " in errors[0]
    assert "W_enc: 1 numbers in row 2" in errors[0]
    sound, broken = (_bundle(tmp_path / "run", 5, rank) for rank in (0, 1))
    assert sound[0]["tensors"]["W_enc"]["not_finite"] == 0
    assert broken[0]["tensors"]["W_enc"]["not_finite"] == 1
    assert broken[1]["W_enc.rows"].tolist() == [2]
    if layout.divided:  # all rows are in one block, which rank 0 updates
        assert [part[0]["first_feature_of_moments"] for part in (sound, broken)] == [0, config.sae.d_sae]
        assert "adam.exp_avg.W_enc" in sound[0]["tensors"]
        assert "adam.exp_avg.W_enc" not in broken[0]["tensors"]
    assert broken[1]["W_enc"][0].isnan().tolist() == [column == 1 for column in range(32)]
    assert newest(tmp_path / "run" / "checkpoints")[0].name == "step-00000004"


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_gradient_of_one_rank(value, layout, tiny_store, tmp_path):
    _skip_without_deepspeed(layout)
    config = _config(tiny_store, tmp_path / "run", layout)
    errors = run_on_mesh(_broken_gradient, layout.shape, config, value)
    assert errors[0] == errors[1]
    assert errors[0].startswith("step 4: the gradient norm is ")
    assert "gradient.main.scores: 1 numbers in row 0" in errors[0]
    assert _bundle(tmp_path / "run", 4, 1)[0]["tensors"]["gradient.main.scores"]["not_finite"] == 1
    assert _bundle(tmp_path / "run", 4, 0)[0]["tensors"]["gradient.main.scores"]["not_finite"] == 0
    assert newest(tmp_path / "run" / "checkpoints")[0].name == "step-00000002"


def test_a_broken_row_that_one_data_rank_reads(tiny_store, tmp_path):
    """The broken row is in the first stream, which the first data rank reads."""
    hook = "blocks.1.resid_post"
    store = store_with_broken_row(tiny_store, tmp_path / "store", hook, 256, of_step=3, value=math.nan)
    errors = run_on_mesh(_diverges, DATA_PARALLEL.shape, _config(store, tmp_path / "run", DATA_PARALLEL))
    assert errors[0] == errors[1]
    assert "not finite on rank 0 (host " in errors[0]
    assert "): batch: 1 numbers in row 0; " in errors[0]
    first, second = (_bundle(tmp_path / "run", 4, rank) for rank in (0, 1))
    assert first[1]["batch"].shape == second[1]["batch"].shape == (128, 32)
    assert first[1]["batch"].isnan().nonzero().tolist() == [[0, 3]]
    assert second[1]["batch"].isfinite().all()
    assert (second[0]["rank"], second[0]["data_rank"], second[0]["feature_rank"]) == (1, 1, 0)
