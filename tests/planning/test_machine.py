"""The free memory of this machine, and the memory of this process."""

import sys
from pathlib import Path

import pytest
import torch

from distsae.parallel import MeshConfig
from distsae.planning.machine import memory_here, process_bytes
from tests.planning.samples import run

pytestmark = pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="/proc is Linux's")


def test_memory_that_is_free():
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    found = memory_here(2, gpu=False)
    assert 0 < found.host <= int(total.split()[1]) * 1024 * 1.01


def test_a_process_has_torch_in_it():
    assert 100 << 20 < process_bytes(run(wandb="off"), torch.device("cpu")) < 4 << 30


def test_a_process_with_deepspeed_has_the_compiler_in_it():
    pytest.importorskip("deepspeed")
    process_bytes(run(wandb="off", engine="deepspeed", mesh=MeshConfig(data=2)), torch.device("cpu"))
    assert "torch._dynamo" in sys.modules
