"""A run whose numbers are no longer finite ends with a bundle; tests/distributed/test_diagnosis.py has two ranks."""

from __future__ import annotations

import json
import math
import resource
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from distsae.checkpoint import newest
from distsae.errors import Diverged
from distsae.training import CheckpointConfig, OptimizerConfig, SweepConfig, TrainConfig, train
from tests.training.broken_numbers import broken_gradient, broken_weights, store_with_broken_row
from tests.training.sample_runs import config_of, metrics, state

HOOK = "blocks.1.resid_post"
EVERY = CheckpointConfig(every=2, keep_last=99)


def _config(store: Path, out: Path, **changes) -> TrainConfig:
    return config_of(store, out, **({"checkpoint": EVERY, "log_every": 1, "aux": "none"} | changes))


def _bundle(out: Path, step: int) -> tuple[dict, dict[str, torch.Tensor]]:
    """Returns the facts and the tensors that rank 0 has written."""
    folder = out / "diagnosis" / f"step-{step:08d}"
    return json.loads((folder / "rank-00000.json").read_text()), load_file(folder / "rank-00000.safetensors")


@pytest.fixture(scope="module")
def sound(tiny_store, tmp_path_factory) -> Path:
    """Folder of the same run without any fault."""
    config = _config(tiny_store, tmp_path_factory.mktemp("sound") / "run")
    train(config)
    return Path(config.out)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_row_of_the_store(value, sound, tiny_store, tmp_path):
    store = store_with_broken_row(tiny_store, tmp_path / "store", HOOK, 256, of_step=5, value=value)
    out = tmp_path / "run"
    with pytest.raises(Diverged) as stopped:
        train(_config(store, out))
    text = str(stopped.value)
    assert text.startswith("step 6: ")
    assert "scores are not finite, the first of them on rank 0; not finite on rank 0 (host " in text
    assert "): batch: 1 numbers in row 0; " in text
    assert f"{out}/diagnosis/step-00000006 has the batch and the broken weights; check the store" in text
    facts, tensors = _bundle(out, 6)
    assert facts["tensors"]["batch"]["rows"] == [0]
    assert facts["tensors"]["W_enc"]["not_finite"] == 0
    assert facts["first_feature_of_moments"] == facts["first_feature"] == 0
    assert tensors["batch"].shape == (256, 32)
    assert (~tensors["batch"].isfinite()).nonzero().tolist() == [[0, 3]]
    assert list(tensors) == ["batch"]
    assert (facts["step"], facts["allocation"], facts["k"], facts["rank"]) == (6, "mutual_choice", 4, 0)
    assert facts["reproduce"]["checkpoint"] == str(out / "checkpoints" / "step-00000004")
    bundle = out / "diagnosis" / "step-00000006"
    assert yaml.safe_load((bundle / "config.yaml").read_text())["sae"]["k"] == 4
    assert (bundle / "metrics.jsonl").read_text() == (out / "metrics.jsonl").read_text()
    assert [line["step"] for line in metrics(out)] == [1, 2, 3, 4, 5]
    _assert_checkpoints_equal(sound, out, [2, 4])


def _assert_checkpoints_equal(sound: Path, out: Path, steps: list[int]) -> None:
    assert sorted(path.name for path in (out / "checkpoints").glob("*step-*")) == [f"step-{n:08d}" for n in steps]
    best, refused = newest(out / "checkpoints")
    assert (best.name, refused) == (f"step-{steps[-1]:08d}", [])
    for number in steps:
        name = f"checkpoints/step-{number:08d}"
        assert state(out / name) == state(sound / name)


@pytest.mark.parametrize("name", ["W_enc", "b_enc"])
def test_a_broken_weight(name, sound, tiny_store, tmp_path):
    out = tmp_path / "run"
    with (
        pytest.raises(Diverged, match=rf"step 5: \d+ scores .*rank 0 \(host .*\): {name}: 1 numbers in row 2;"),
        broken_weights(0, at_step=4, name=name),
    ):
        train(_config(tiny_store, out))
    facts, tensors = _bundle(out, 5)
    assert facts["tensors"][name]["not_finite"] == 1
    assert tensors[f"{name}.rows"].tolist() == [2]
    assert tensors[name].isnan().sum() == 1
    _assert_checkpoints_equal(sound, out, [2, 4])


def test_a_broken_decoder_row_is_seen_in_the_loss(tiny_store, tmp_path):
    with (
        pytest.raises(Diverged, match=r"step 3: the loss is nan; .*W_dec: 1 numbers in row 2"),
        broken_weights(0, at_step=2, name="W_dec"),
    ):
        # With Feature Choice every feature has matches, so the broken row is used.
        train(_config(tiny_store, tmp_path / "run", allocation="feature_choice", quotas="uniform"))


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_broken_gradient(value, sound, tiny_store, tmp_path):
    out = tmp_path / "run"
    with (
        pytest.raises(Diverged, match=r"step 4: the gradient norm is (nan|inf) .*gradient.main.scores: 1 numbers"),
        broken_gradient(at_step=3, value=value),
    ):
        train(_config(tiny_store, out))
    assert _bundle(out, 4)[0]["tensors"]["gradient.main.scores"]["not_finite"] == 1
    _assert_checkpoints_equal(sound, out, [2])
    train(_config(tiny_store, out))  # without the fault, the run resumes from before it
    _assert_checkpoints_equal(sound, out, [*range(2, 31, 2)])


def test_weights_that_are_not_finite_are_not_saved(tiny_store, tmp_path):
    """Adam's first step is as long as the learning rate; no other check would find it before the next step."""
    config = _config(
        tiny_store, tmp_path / "run", checkpoint=CheckpointConfig(every=1),
        optimizer=OptimizerConfig(lr=1e38, warmup_share=0.0),
    )  # fmt: skip
    with pytest.raises(Diverged, match=r"step 1: weights are not finite after the update; they are not saved; .*lower"):
        train(config)
    assert not list(Path(config.out).glob("checkpoints/*"))
    assert _bundle(Path(config.out), 1)[0]["reproduce"]["checkpoint"] is None


def test_a_member_of_a_sweep_has_a_bundle_of_its_own(tiny_store, tmp_path):
    config = _config(tiny_store, tmp_path / "sweep", steps=4, optimizer=OptimizerConfig(warmup_share=0.0))
    with pytest.raises(Diverged, match=r"1 of 2 members of the sweep stopped: lr-1e[+]38: step 2: "):
        train(TrainConfig(**(vars(config) | {"sweep": SweepConfig(lr=(1e38, 2e-3))})))
    assert len(list((tmp_path / "sweep" / "lr-1e+38" / "diagnosis").iterdir())) == 1
    assert not (tmp_path / "sweep" / "lr-0.002" / "diagnosis").exists()


def test_a_bundle_that_cannot_be_written_does_not_hide_the_error(tiny_store, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "diagnosis").write_text("a file where a folder should be")
    with pytest.raises(Diverged) as stopped, broken_weights(0, at_step=1):
        train(_config(tiny_store, out))
    text = str(stopped.value)
    assert "W_enc: 1 numbers in row 2; " in text
    assert f"{out}/diagnosis/step-00000002 is not complete: rank 0 (host " in text
    assert ") could not write (NotADirectoryError: " in text


def test_a_full_disk_does_not_hide_the_error(tiny_store, tmp_path):
    """Nor does it keep a rank out of the collective in which all ranks report."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, before[1]))
    try:
        with pytest.raises(Diverged) as stopped, broken_weights(0, at_step=1):
            train(_config(tiny_store, tmp_path / "run"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "could not write (OSError: [Errno 27] File too large" in str(stopped.value)
