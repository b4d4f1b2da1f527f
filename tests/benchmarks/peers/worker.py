"""One contestant in a process of its own: `python -m tests.benchmarks.peers.worker JOB`, driven over stdin and stdout.

Its first line says that it is ready (`version`, `warmup`), then each line on stdin is answered by one step on the next
batch: `seconds` and `cpu` (all threads), `fvu`, and `peak_mib` of resident memory so far, less what was resident before
the trainer was built. A line `failed` says why there is no more.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.peers.contestant import Contestant, Data
from tests.benchmarks.peers.problem import Size

__all__: list[str] = []

_STATUS, _MIB = Path("/proc/self/status"), 1 << 20


def _resident(key: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def _serve(job: dict[str, Any], answer: Callable[..., None]) -> None:
    size = Size(**job["size"])
    torch.set_num_threads(size.threads)
    build = importlib.import_module(f"tests.benchmarks.peers.{job['module']}").build
    batches = torch.from_numpy(np.load(job["batches"]))
    mean = batches.mean((0, 1))
    data = Data(mean, sum(float((x - mean).square().sum(1).mean()) for x in batches) / len(batches))
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    # Beyond this an allocation fails, instead of the kernel ending whoever it likes.
    resource.setrlimit(resource.RLIMIT_DATA, (job["memory_mib"] * _MIB,) * 2)
    before = _resident("VmRSS")
    contestant: Contestant = build(size, data, *job["arguments"])
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: building is not training
    answer(version=contestant.version, warmup=contestant.warmup)
    for x, _ in zip(batches, sys.stdin, strict=False):
        began, cpu_began = time.perf_counter(), time.process_time()
        fvu = contestant.step(x)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        answer(seconds=seconds, cpu=cpu, fvu=fvu, peak_mib=_resident("VmHWM") - before)


def main() -> None:
    """Answers on stdout alone: what libraries print there goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        _serve(json.loads(sys.argv[1]), answer)
    except Exception as error:
        answer(failed=f"{type(error).__name__}: {error}".splitlines()[0])


if __name__ == "__main__":
    main()
