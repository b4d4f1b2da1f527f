"""Real processes on gloo: runs a function on every rank of a mesh and returns all results.

Starting Python and torch takes seconds, so four processes are started once and used again for every mesh; a process
group lives as long as one call. If a rank fails or the time is up, all processes are ended, and the next call starts
new ones.
"""

from __future__ import annotations

import atexit
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from distsae.parallel import Mesh, MeshConfig, build_mesh

MESHES = ((1, 2), (2, 1), (2, 2), (1, 4), (4, 1), (1, 3))
"""Shapes, data x feature, on which everything must equal 1x1."""

_PROCESSES = 4


class RankFailed(AssertionError):
    """A rank raised an error, ended or took too long; the text says which."""


def run_on_mesh(
    function: Callable[..., Any], shape: tuple[int, int], *arguments: object, seconds: float = 400
) -> list[Any]:
    """Calls `function(mesh, *arguments)` on every rank of a `data x feature` mesh.

    Args:
        function: function at the top level of its module.
        shape: sizes of the data and the feature axis; 1x1 runs in this process.
        arguments: further arguments, which must be picklable.
        seconds: time limit.

    Returns:
        Results in rank order; feature ranks are neighbours.

    Raises:
        RankFailed: a rank failed; the text has the traceback of the first one.
    """
    if shape == (1, 1):
        return [function(build_mesh(MeshConfig(), 1, "cpu"), *arguments)]
    return _Workers.get().run(function, shape, arguments, seconds)


def end_processes() -> None:
    """Ends the processes; the next call starts new ones, as a new launch of a run would."""
    _Workers.end()


class _Workers:
    """The processes, with a pipe to each."""

    _current: _Workers | None = None

    def __init__(self) -> None:
        context = mp.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._calls = 0
        self._pipes: list[Connection] = []
        self._processes = []
        before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "GLOO_SOCKET_IFNAME")}
        os.environ |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        for rank in range(_PROCESSES):
            pipe, pipe_of_process = context.Pipe()
            process = context.Process(target=_serve, args=(rank, pipe_of_process), daemon=True)
            process.start()
            self._pipes.append(pipe)
            self._processes.append(process)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

    @classmethod
    def get(cls) -> _Workers:
        if cls._current is None:
            cls._current = cls()
            atexit.register(cls.end)
        return cls._current

    @classmethod
    def end(cls) -> None:
        if cls._current is not None:
            for process in cls._current._processes:
                process.kill()
                process.join()
            cls._current = None

    def run(
        self, function: Callable[..., Any], shape: tuple[int, int], arguments: tuple[object, ...], seconds: float
    ) -> list[Any]:
        self._calls += 1
        rendezvous = Path(self._folder.name) / f"rendezvous-{self._calls}"
        pipes = self._pipes[: shape[0] * shape[1]]
        for pipe in pipes:
            pipe.send_bytes(pickle.dumps((function, shape, arguments, str(rendezvous))))
        results: dict[int, Any] = {}
        deadline = time.monotonic() + seconds
        while len(results) < len(pipes):
            waiting = {pipe: rank for rank, pipe in enumerate(pipes) if rank not in results}
            ready = wait(list(waiting), timeout=max(deadline - time.monotonic(), 0))
            problem = "" if ready else f"{len(waiting)} of {len(pipes)} ranks had not answered after {seconds} s"
            for rank in [waiting[pipe] for pipe in ready]:
                try:
                    failure, results[rank] = pickle.loads(pipes[rank].recv_bytes())
                except EOFError:
                    failure = "it ended"
                if failure and not problem:
                    problem = f"rank {rank} of {shape[0]}x{shape[1]}: {failure}"
            if problem:
                self.end()
                raise RankFailed(problem)
        return [results[rank] for rank in range(len(pipes))]


def _serve(rank: int, pipe: Connection) -> None:
    """The loop of a process: receives a call, joins its process group, calls the function and sends the result."""
    torch.set_num_threads(1)
    while True:
        function, (data, feature), arguments, rendezvous = pickle.loads(pipe.recv_bytes())
        # These are the variables that a launcher sets.
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(data * feature)}
        try:
            dist.init_process_group(
                "gloo",
                init_method=f"file://{rendezvous}",
                rank=rank,
                world_size=data * feature,
                timeout=timedelta(seconds=400),
            )
            mesh: Mesh = build_mesh(MeshConfig(data=data, feature=feature), data * feature, "cpu")
            answer = pickle.dumps(("", function(mesh, *arguments)))
            if dist.is_initialized():  # a whole run destroys it itself
                dist.destroy_process_group()
        except BaseException:
            answer = pickle.dumps((traceback.format_exc(), None))
        pipe.send_bytes(answer)
