"""Whole commands on the pretended device: they go through, on operations of CUDA and collectives of NCCL."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distsae.training import AuxiliaryConfig, CheckpointConfig, SizeConfig, TrainConfig, train
from tests.pretended_cuda.cuda_kernels import without_cuda_kernel
from tests.pretended_cuda.device_guard import load_device_guard

STEPS = 8
ROOT = Path(__file__).parents[2]


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


def _command(config, **mesh):
    """The command line of a config."""
    words = ["train"]
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if dataclasses.is_dataclass(value):
            for inner in dataclasses.fields(value):
                if getattr(value, inner.name) != inner.default:
                    words.append(f"--{field.name}.{inner.name}={getattr(value, inner.name)}")
        elif value != default:
            words.append(f"--{field.name}={value}")
    return " ".join([*words, *(f"--mesh.{axis}={size}" for axis, size in mesh.items())])


def _run(folder, commands, ranks=1):
    """Runs commands in processes of their own, and returns the report of each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = []
    for rank in range(ranks):
        place = {**job, "RANK": rank, "LOCAL_RANK": rank} if ranks > 1 else {}
        environment = os.environ | {name: str(value) for name, value in place.items()}
        environment.pop("ACCELERATE_USE_CPU", None)
        command = [sys.executable, "-m", "tests.pretended_cuda.program", str(folder / f"{rank}.json"), *commands]
        with (folder / f"{rank}.log").open("w") as log:
            processes.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log))
    for rank, process in enumerate(processes):
        assert process.wait(300) == 0, (folder / f"{rank}.log").read_text()[-4000:]
    reports = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]
    for rank, report in enumerate(reports):
        assert [done["code"] for done in report["commands"]] == [0] * len(commands), (
            folder / f"{rank}.log"
        ).read_text()[-4000:]
    return reports


@pytest.fixture(scope="module")
def alone(tiny_model_dir, tiny_corpus, tmp_path_factory):
    """The folder of one process that produced a store, trained on it and evaluated the SAE, and its report."""
    folder = tmp_path_factory.mktemp("alone")
    produce = (
        f"produce --model {tiny_model_dir} --corpus {tiny_corpus} --hooks '[blocks.1.resid_post]' "
        f"--out {folder}/store --context_length 32 --max_rows 3000 --unit_rows 1000 --chunk_rows 256 "
        "--heldout_share 0.05"
    )
    run = _command(_train(folder / "store", folder / "run"))
    (report,) = _run(folder, [produce, run, f"evaluate {folder}/run --store {folder}/store"])
    return folder, report


def test_produce_train_and_evaluate_go_through(alone):
    folder, report = alone
    assert json.loads((folder / "run" / "evaluation.json").read_text())["device"] == "cuda"
    assert all(done["launches"] > 100 for done in report["commands"])
    assert report["kernels"] == ["_dots", "_scores", "_update_rows", "_weighted_sums"]
    assert without_cuda_kernel(report["operations"]) == []
    assert len(report["operations"]) > 80


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
    first, second = _run(tmp_path, [_command(_train(folder / "store", tmp_path / "run"), **{axis: 2})], ranks=2)
    sent = [report["commands"][0]["collectives"] for report in (first, second)]
    assert len(sent[0]) > 5 * STEPS
    assert sent[0] == sent[1]
    assert without_cuda_kernel(first["operations"]) == []
    assert (tmp_path / "run" / "sae" / "sae.safetensors").is_file()
