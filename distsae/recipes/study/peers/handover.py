"""The study's end of a peer's process: batches are handed over one by one, and each is answered."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from distsae.errors import CannotContinue

__all__ = ["PeerProcess"]

_WORKER = Path(__file__).with_name("worker.py")
_ENVIRONMENT = {"SPARSIFY_DISABLE_TRITON": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
_WEIGHTS = "weights.npz"


class PeerProcess:
    """Starts a peer's trainer in the interpreter of the peers; use as a context manager, which ends it.

    Its process ends by itself when this one is gone, since nothing is left to read.

    Args:
        python: the interpreter.
        job: what is trained, as `worker.py` takes it, without `weights`.
        folder: folder for its log, `peer.log`, and for its weights until they are read.

    Raises:
        CannotContinue: the trainer could not be made; the text has the last line of the log.
    """

    def __init__(self, python: str, job: Mapping[str, Any], folder: Path) -> None:
        self._weights = folder / _WEIGHTS
        self._log = folder / "peer.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, str(_WORKER), json.dumps({**job, "weights": str(self._weights)})],
                env=os.environ | _ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # a Ctrl-C on the terminal reaches the study alone
            )
        try:
            self._answer()
        except CannotContinue:
            self._end()
            raise

    def step(self, x: Tensor) -> float:
        """Trains on rows, fp32 `[rows, d_in]`, and returns their mean squared error before the update.

        Raises:
            CannotContinue: the process has ended; the text has the last line of its log.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `_answer` knows more
            self._process.stdin.write(struct.pack("<i", x.shape[0]))
            self._process.stdin.write(x.contiguous().numpy().tobytes())
            self._process.stdin.flush()
        return float(self._answer()["error"])

    def finish(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Ends the training; returns the weights, and what the peer wants recorded.

        Raises:
            CannotContinue: the process has ended before; the text has the last line of its log.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(struct.pack("<i", 0))
            self._process.stdin.flush()
        facts: dict[str, Any] = self._answer()["facts"]
        with np.load(self._weights, allow_pickle=False) as content:
            weights = {name: torch.from_numpy(content[name]) for name in content.files}
        return weights, facts

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            said = self._log.read_text(errors="replace").strip().splitlines()
            reason = " ".join(said[-1].split()) if said else "no word"
            raise CannotContinue(f"the peer's process ended with status {code}: {reason}; see {self._log}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()
        self._weights.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
