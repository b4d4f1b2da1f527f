"""Trains one member with a peer's own code: `PEERS_PYTHON worker.py JOB`, run by the interpreter of the peers.

It imports torch and the peer's package, and nothing of distsae. JOB is a JSON object; `trainer` is the path of the
module whose `build(job)` makes the trainer. Batches come on stdin: the number of rows as a little-endian 32-bit number,
then the rows in fp32. Each is answered on stdout by a JSON line with the `error` of the step. A batch of no rows ends
the training; then the weights are written to `weights` (.npz), and the last line has what is worth recording.
"""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = ["Trainer", "batches", "main"]


class Trainer(Protocol):
    """A peer's trainer that is ready for its first step.

    Attributes:
        facts: what is worth recording: versions, and settings that its recipe chose.
    """

    facts: dict[str, Any]

    def step(self, x: Tensor) -> float:
        """Trains on rows `[rows, d_in]`; returns their mean squared error, `||x - x_hat||^2`, before the update."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """Returns `W_enc [d_in, d_sae]`, `W_dec [d_sae, d_in]`, `b_enc`, `b_dec`, and its `threshold` if it has one.

        A feature fires on `(x - b_dec) @ W_enc + b_enc`.
        """
        ...


def batches(file: BinaryIO, d_in: int) -> Iterator[Tensor]:
    """Yields the batches on `file` until one has no rows.

    Raises:
        EOFError: the file ends before that, because the process at its other end is gone.
    """
    while True:
        (rows,) = struct.unpack("<i", _exactly(file, 4))
        if rows == 0:
            return
        content = bytearray(_exactly(file, 4 * rows * d_in))
        yield torch.frombuffer(content, dtype=torch.float32).reshape(rows, d_in)


def _exactly(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError("the study that handed over the batches is gone")
    return content


def _trainer(job: dict[str, Any]) -> Trainer:
    spec = importlib.util.spec_from_file_location("trainer_of_a_peer", job["trainer"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    trainer: Trainer = module.build(job)
    return trainer


def _serve(job: dict[str, Any], file: BinaryIO, answer: Callable[[dict[str, Any]], None]) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(job["seed"])
    trainer = _trainer({**job, "device": device.type})
    answer({"ready": True})
    for x in batches(file, job["d_in"]):
        answer({"error": trainer.step(x.to(device))})
    weights = {name: tensor.detach().float().cpu().numpy() for name, tensor in trainer.weights().items()}
    with Path(job["weights"]).open("wb") as out:
        np.savez(out, **weights)  # type: ignore[arg-type]  # numpy's stub takes a keyword for a flag
    answer({"done": True, "facts": {"torch": str(torch.__version__), **trainer.facts}})


def main(argument: str) -> int:
    """Serves a job and returns the exit code; what a peer raises ends up on stderr, as its last line."""
    # Answers alone are on stdout: what libraries print goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(values: dict[str, Any]) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        _serve(json.loads(argument), sys.stdin.buffer, answer)
    except (EOFError, BrokenPipeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules must not pass for packages of that name
    sys.exit(main(sys.argv[1]))
