"""The parent's end of a worker: a contestant that can fail without ending the run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.benchmarks.peers.contestants import Entry
from tests.benchmarks.peers.problem import Size

__all__ = ["Failed", "Worker"]

_ROOT = Path(__file__).parents[3]
# A thread that waits must not take a core from the contestant whose turn it is.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "SPARSIFY_DISABLE_TRITON": "1", "HF_HUB_OFFLINE": "1"}


class Failed(Exception):
    """A contestant could not go on; the message says why."""


class Worker:
    """Starts a contestant; use as a context manager, which ends it.

    Args:
        python: the interpreter of its environment.
        entry: who it is.
        size: what it trains.
        batches: file with the activations of all its steps.
        memory_mib: MiB it may allocate.

    Raises:
        Failed: it did not get ready.
    """

    def __init__(self, python: str, entry: Entry, size: Size, batches: Path, memory_mib: int) -> None:
        job = {
            "size": dataclasses.asdict(size),
            "module": entry.module,
            "arguments": entry.arguments,
            "batches": str(batches),
            "memory_mib": memory_mib,
        }
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | _ENVIRONMENT
        self._module = entry.module
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, "-m", "tests.benchmarks.peers.worker", json.dumps(job)],
            env=environment,
            cwd=_ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        try:
            ready = self._answer()
        except Failed:
            self._end()
            raise
        self.version, self.warmup = ready["version"], ready["warmup"]

    def step(self) -> dict[str, float]:
        """Does the next step; returns `seconds`, `cpu`, `fvu` and `peak_mib`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `_answer` knows more
            print("step", file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines()
            raise Failed(f"{self._module}: ended with status {code}: {said[-1] if said else 'no word'}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Failed(f"{self._module}: {answer['failed']}")
        return answer

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()
