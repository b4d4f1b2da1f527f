"""Whole commands on the pretended device: they go through, on operations of CUDA and collectives of NCCL."""

import json

import pytest
import torch
from safetensors.torch import load_file

from distsae.training import AuxiliaryConfig, CheckpointConfig, SizeConfig, TrainConfig, train
from tests.pretended_cuda.commands import command_line, run_commands
from tests.pretended_cuda.cuda_kernels import without_cuda_kernel
from tests.pretended_cuda.device_guard import load_device_guard

STEPS = 8


@pytest.fixture(scope="module", autouse=True)
def compiler():
    load_device_guard()


def _train(store, out):
    """Every rule, the auxiliary loss, checkpoints and held-out rows in a few steps."""
    return TrainConfig(
        store=str(store),
        out=str(out),
        steps=STEPS,
        batch_tokens=128,
        sae=SizeConfig(d_sae=64, k=4),
        allocation="mutual_choice",
        aux="aux_zipf",
        auxiliary=AuxiliaryConfig(rho=0.9, window_tokens=256, refresh_steps=1),
        finetune_fc_from=0.6,
        prefilter="bf16",
        log_every=2,
        evaluate_every=4,
        checkpoint=CheckpointConfig(every=4),
        wandb="off",
    )


@pytest.fixture(scope="module")
def alone(tiny_model_dir, tiny_corpus, tmp_path_factory):
    """The folder of one process that produced a store, trained on it and evaluated the SAE, and its report."""
    folder = tmp_path_factory.mktemp("alone")
    produce = (
        f"produce --model {tiny_model_dir} --corpus {tiny_corpus} --hooks '[blocks.1.resid_post]' "
        f"--out {folder}/store --context_length 32 --max_rows 3000 --unit_rows 1000 --chunk_rows 256 "
        "--heldout_share 0.05"
    )
    run = command_line(_train(folder / "store", folder / "run"))
    (report,) = run_commands(folder, [produce, run, f"evaluate {folder}/run --store {folder}/store"])
    return folder, report


def test_produce_train_and_evaluate_go_through(alone):
    folder, report = alone
    assert json.loads((folder / "run" / "evaluation.json").read_text())["device"] == "cuda"
    assert all(done["launches"] > 100 for done in report["commands"])
    assert set(report["kernels"]) == {
        *("_count_ones", "_dots", "_list_ones", "_scores", "_segment_gradients", "_segment_sums"),
        *("_update_rows", "_upper_bits", "_weighted_sums"),
    }
    assert without_cuda_kernel(report["operations"]) == []
    assert len(report["operations"]) > 80


def test_rows_are_copied_in_page_locked_memory_and_no_step_waits_for_them(alone):
    """What is copied from ordinary memory are weights, held-out rows and indices."""
    produced, trained, _ = alone[1]["commands"]
    assert produced["copied"]["down, page-locked"] > 2 * 32 * 2700
    assert "down, ordinary" not in produced["copied"]
    assert trained["copied"]["up, page-locked"] >= STEPS * 128 * 32 * 2
    assert not [place for place in trained["waited_at"] if place.startswith("batches/")]
    assert [place for place in trained["waits_aside"] if place.startswith("batches/upload.py")]


def test_a_forward_pass_that_produces_rows_waits_twice(alone):
    """Once inside transformers, and once for the rows of the pass before, which are there by then."""
    produced, _, evaluated = alone[1]["commands"]
    passes = -(-3000 // (31 * 32))
    per_pass = {place: waits for place, waits in produced["waited_at"].items() if waits > passes + 3}
    assert [place for place in per_pass if not place.startswith(("hooks/", "language_model/loading"))] == []
    assert not [place for place in evaluated["waited_at"] if place.startswith("evaluation/pos") and "bincount" in place]


def test_the_sae_is_that_of_the_cpu(alone, tmp_path):
    folder, _ = alone
    train(_train(folder / "store", tmp_path / "run"))
    found, expected = (load_file(path / "run" / "sae" / "sae.safetensors") for path in (folder, tmp_path))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("axis", ["data", "feature"])
def test_two_ranks_send_only_what_nccl_takes_in_one_order(axis, alone, tmp_path):
    """NCCL matches collectives by their order: ranks that differ hang, or mix up their messages."""
    folder, _ = alone
    first, second = run_commands(
        tmp_path, [command_line(_train(folder / "store", tmp_path / "run"), **{axis: 2})], ranks=2
    )
    sent = [report["commands"][0]["collectives"] for report in (first, second)]
    assert len(sent[0]) > 5 * STEPS
    assert sent[0] == sent[1]
    assert without_cuda_kernel(first["operations"]) == []
    assert (tmp_path / "run" / "sae" / "sae.safetensors").is_file()
