"""DeepSpeed on the pretended device: it starts, steps, saves and resumes on collectives that NCCL takes."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from distsae.store import Store
from distsae.training import CheckpointConfig, SizeConfig, TrainConfig, train
from tests.pretended_cuda.commands import command_line, run_commands
from tests.pretended_cuda.cuda_kernels import without_cuda_kernel
from tests.pretended_cuda.device_guard import load_device_guard

pytest.importorskip("deepspeed")


def test_it_starts_steps_saves_and_resumes_with_the_results_of_the_plain_engine(tmp_path):
    """ZeRO-2 on the data axis with its state in host memory, then ZeRO-1 on the feature axis from the checkpoint."""
    load_device_guard()
    rows = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    Store.write(tmp_path / "store", rows.half(), hook="h", unit_rows=1000, chunk_rows=256, heldout_share=0.05)
    config = TrainConfig(
        store=str(tmp_path / "store"),
        out=str(tmp_path / "first"),
        steps=4,
        batch_tokens=128,
        sae=SizeConfig(d_sae=32, k=4),
        prefilter="bf16",
        log_every=2,
        checkpoint=CheckpointConfig(every=2),
        wandb="off",
    )
    middle = tmp_path / "first" / "checkpoints" / "step-00000002"
    second = replace(config, out=str(tmp_path / "second"), resume=str(middle))
    offloaded = "--engine deepspeed --deepspeed.zero_stage 2 --deepspeed.offload_optimizer cpu"
    for command in (
        f"{command_line(config, data=2)} {offloaded}",
        f"{command_line(second, feature=2)} --engine deepspeed",
    ):
        reports = run_commands(tmp_path, [command], ranks=2)
        sent = [report["commands"][0]["collectives"] for report in reports]
        assert len(sent[0]) > 10
        assert sent[0] == sent[1]
        assert without_cuda_kernel(reports[0]["operations"]) == []
    train(replace(config, out=str(tmp_path / "plain")))
    saes = [load_file(tmp_path / run / "sae" / "sae.safetensors") for run in ("first", "second", "plain")]
    for name, expected in saes[-1].items():
        for found in saes[:-1]:
            torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-5, msg=name)
