"""A dry run plans the memory of training, refuses what training refuses, and writes nothing."""

import re

import pytest
import torch
import torch.distributed as dist

from distsae.errors import WrongInput
from distsae.parallel import MeshConfig
from distsae.planning import dry_run
from distsae.recipes.check.finding import Finding
from distsae.recipes.check.table import as_json
from distsae.training import CheckpointConfig, OptimizerConfig, SizeConfig, SweepConfig, TrainConfig
from distsae.training.folder.run_folder import RunFolder


@pytest.fixture
def config(tiny_store, tmp_path):
    def of(**changes):
        values = {
            "store": str(tiny_store),
            "out": str(tmp_path / "run"),
            "hook": "blocks.0.resid_post",
            "batch_tokens": 256,
            "sae": SizeConfig(d_sae=512, k=8),
            "wandb": "off",
        }
        return TrainConfig(**(values | changes))

    return of


def test_any_mesh_is_planned_from_one_process(config, tmp_path):
    text = dry_run(config(mesh=MeshConfig(data=2, feature=4)), memory_gb=8)  # this process may have grown large
    assert "mesh 2 x 4" in text
    assert "available: 64.00 GiB for 8 processes on the host: it fits" in text
    assert int(re.search(r"largest sae.d_sae .*: ([\d,]+)$", text)[1].replace(",", "")) > 512
    assert not (tmp_path / "run").exists()
    assert not dist.is_initialized()


def test_a_gpu_is_planned_for_on_a_machine_without_one(config):
    settings = {"mesh": MeshConfig(data=2, feature=4), "kernels": "triton"}
    text = dry_run(config(**settings), memory_gb=80, device="cuda")
    device, host = text.partition("in the host's memory")[::2]
    for name in ("CUDA context, estimated", "cuBLAS workspaces", "NCCL buffers, estimated", "bf16 copy of the encoder"):
        assert name in device
    assert ("CUDA's libraries, estimated" in host) == (not torch.cuda.is_available())
    assert "available: 80.00 GiB on the GPU: it fits" in text
    largest = int(re.search(r"largest sae.d_sae .*: ([\d,]+)$", text)[1].replace(",", ""))
    smaller = dry_run(config(**settings), memory_gb=40, device="cuda")
    assert 0 < int(re.search(r"largest sae.d_sae .*: ([\d,]+)$", smaller)[1].replace(",", "")) < largest / 2


def test_the_file_of_a_check_gives_the_time_of_a_step(config, tmp_path):
    path = tmp_path / "check.json"
    step = {"d_sae": 512, "step_s": 0.6, "selection_s": 0.1, "rows_s": 0.2, "update_s": 0.3}
    exchange = {"processes": 2, "sum_bytes_per_s": 1e9}
    settings = {"d_in": 32, "k": 8, "batch_tokens": 256, "device": "cpu"}
    found = [Finding("step", "ok", "", step), Finding("exchange", "ok", "", exchange)]
    path.write_text(as_json(found, settings))
    alone = dry_run(config(aux="none"), 8, "cpu", str(path))
    assert "reading was not measured" in alone
    assert "step                                     600" in alone
    assert "427 tokens/s; bottleneck: update" in alone
    assert "exchange: gradients " in dry_run(config(mesh=MeshConfig(data=2)), 8, "cpu", str(path))
    both = dry_run(config(aux="none", sweep=SweepConfig(seed=(0, 1))), 8, "cpu", str(path))
    assert "1,200" in both
    assert "allocation token_choice" in dry_run(config(allocation="token_choice"), 8, "cpu", str(path))
    with pytest.raises(WrongInput, match=r"`check` .* must be a file"):
        dry_run(config(), 8, "cpu", str(tmp_path / "none.json"))


def test_a_cpu_can_be_asked_for(config):
    text = dry_run(config(), memory_gb=8, device="cpu")
    assert "on the GPU" not in text
    assert "CUDA" not in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, whose memory is known")
def test_the_memory_of_a_gpu_elsewhere_must_be_given(config):
    with pytest.raises(WrongInput, match=r"`device` \(=cuda\) must come with `memory_gb` on a machine without a GPU"):
        dry_run(config(), device="cuda")


def test_a_run_that_does_not_fit(config):
    assert "it does not fit" in dry_run(config(), memory_gb=0.01)


def test_a_short_memory_is_told_what_waiting_for_checkpoints_would_save(config):
    wide = {"sae": SizeConfig(d_sae=1 << 21, k=8)}  # its checkpoint is far larger than this process can grow
    words = r"`--checkpoint.asynchronous false` would save ([\d.]+) GiB on the host: (.*)"

    def tried(memory_gb, **changes):
        return re.search(words, dry_run(config(**wide, **changes), memory_gb=memory_gb))

    assert tried(64) is None
    short = tried(0.01)
    assert short[2] == "which is not enough"
    needs = float(re.search(r"peak: ([\d.]+) GiB", dry_run(config(**wide), memory_gb=64))[1])
    assert tried(needs - float(short[1]) / 2)[2] == "then it fits"
    assert tried(0.01, checkpoint=CheckpointConfig(asynchronous=False)) is None


def test_a_short_memory_is_told_what_dividing_moments_would_save(config):
    wide = {"sae": SizeConfig(d_sae=1 << 21, k=8), "mesh": MeshConfig(data=4)}
    words = r"`--optimizer.divide_moments true` would save ([\d.]+) GiB on each data rank: (.*)"

    def tried(memory_gb, **changes):
        return re.search(words, dry_run(config(**(wide | changes)), memory_gb=memory_gb))

    assert tried(64) is None
    short = tried(0.01)
    assert short[2] == "which is not enough"
    needs = float(re.search(r"peak: ([\d.]+) GiB", dry_run(config(**wide), memory_gb=64))[1])
    assert tried(needs - float(short[1]) / 2)[2] == "then it fits"
    assert tried(0.01, optimizer=OptimizerConfig(divide_moments=True)) is None
    assert tried(0.01, mesh=MeshConfig(feature=4)) is None
    plan = dry_run(config(**wide, optimizer=OptimizerConfig(divide_moments=True)), memory_gb=64)
    assert "Adam's moments, fp32, divided over 4 data ranks" in plan


def test_what_training_refuses(config, tmp_path):
    for changes, words in [
        ({"hook": "blocks.7.resid_post"}, "blocks.7.resid_post"),
        ({"mesh": MeshConfig(data=3), "batch_tokens": 192}, "must divide 64"),
        ({"store": str(tmp_path / "nowhere")}, "nowhere"),
        ({"init": str(tmp_path / "no_sae")}, "no_sae"),
    ]:
        with pytest.raises(WrongInput, match=words):
            dry_run(config(**changes))
    with pytest.raises(WrongInput, match="memory_gb"):
        dry_run(config(), memory_gb=0)


def test_a_folder_with_another_run_is_refused(config, tmp_path):
    RunFolder(str(tmp_path / "run")).write_config(config(steps=3))
    with pytest.raises(WrongInput, match=r"sae.k"):
        dry_run(config(steps=3, sae=SizeConfig(d_sae=512, k=4)))


def test_a_sweep_over_widths_has_no_largest(config):
    text = dry_run(config(sweep=SweepConfig(d_sae=(256, 512))), memory_gb=2)
    assert "d_sae 256 512" in text
    assert "largest" not in text
