"""A rank that fails alone says so and ends within seconds, though NCCL would let it wait for the others for ever."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from distsae.checkpoint import newest
from tests.end_to_end.launching import ENVIRONMENT, train_words

_PROGRAM = Path(__file__).with_name("nccl_like.py")
_SECONDS = 100.0
"""Far beyond what the processes take to start, and far below the time after which they would end by themselves."""


def _ends(tmp_path: Path, store: Path, failure: str, failing_rank: int = 1) -> tuple[list[int], list[str]]:
    """Runs two ranks without a launcher, which would end one of them for us; returns exit codes and what they print."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    arguments = train_words(
        {
            "store": store,
            "out": tmp_path / "run",
            "hook": "blocks.0.resid_post",
            "steps": 6,
            "batch_tokens": 256,
            "sae.d_sae": 64,
            "sae.k": 4,
            "mesh.feature": 2,
            "checkpoint.every": 2,
            "wandb": "off",
        }
    )
    environment = ENVIRONMENT | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "MEETING": str(tmp_path)}
    environment |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "FAILURE": failure, "FAILING_RANK": str(failing_rank)}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(_PROGRAM), *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": "0"},
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=_SECONDS)[1] for rank in (ranks[failing_rank], ranks[1 - failing_rank])]
        return [rank.returncode for rank in ranks], said if failing_rank == 0 else said[::-1]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()


def test_a_full_gpu_of_one_rank(tiny_store, tmp_path):
    codes, (of_other, of_failing) = _ends(tmp_path, tiny_store, "memory")
    assert codes == [1, 1], (of_other, of_failing)
    (line,) = [line for line in of_failing.splitlines() if line.startswith("distsae: error")]
    assert line.startswith(
        f"distsae: error (rank 1 on {os.uname().nodename}): step 3: reading its batch: the GPU must have room for the "
        "run; got CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which "
        "1.25 GiB is free; use a wider `mesh.feature`"
    )
    assert "Traceback" not in of_failing
    assert ": lost connection to another rank (" in of_other
    assert newest(tmp_path / "run" / "checkpoints")[0].name == "step-00000002"


def test_a_bug_that_the_first_rank_meets(tiny_store, tmp_path):
    codes, (of_failing, of_other) = _ends(tmp_path, tiny_store, "bug", failing_rank=0)
    assert codes == [1, 1], (of_failing, of_other)
    assert re.search(r"Traceback \(most recent call last\).*\nAssertionError: an invariant", of_failing, re.DOTALL)
    assert ": lost connection to another rank (" in of_other


def test_an_error_of_all_ranks(tiny_store, tmp_path):
    codes, (of_first, _) = _ends(tmp_path, tiny_store, "alike")
    assert codes[0] == 3
    assert of_first.count("distsae: error: step 3: a number is not finite") == 1
