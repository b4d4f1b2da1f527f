"""`distsae` on a torch whose process groups end as NCCL's do, with a failure of one rank.

`destroy_process_group` waits until every rank has called it. The rank in `FAILING_RANK` fails before its third step, as
`FAILURE` says.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from distsae.cli.main import main
from distsae.errors import Diverged
from distsae.training.run import Run

FAILURES = {
    "memory": torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.25 GiB is "
        "free. Including non-PyTorch memory, this process has 77.86 GiB memory in use."
    ),
    "bug": AssertionError("an invariant"),
    "alike": Diverged("step 3: a number is not finite"),
}


def _destroy(group: object = None) -> None:
    folder = Path(os.environ["MEETING"])
    (folder / f"destroyed-{dist.get_rank()}").touch()
    while len(list(folder.glob("destroyed-*"))) < dist.get_world_size():
        time.sleep(0.05)


def _failing_step(run: Run, batch: object) -> dict[str, float | str]:
    failure = os.environ["FAILURE"]
    if run.done == 2 and (failure == "alike" or os.environ["RANK"] == os.environ["FAILING_RANK"]):
        raise FAILURES[failure]
    return step(run, batch)


if __name__ == "__main__":
    dist.destroy_process_group = _destroy
    step, Run.step = Run.step, _failing_step
    sys.exit(main())
