"""Ways to save the state of a run: ours, and those of torch on the same tensors; and what the machine can do."""

from __future__ import annotations

import os
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from distsae.checkpoint import CheckpointFailed, Ranks, Saver, Shard, State

__all__ = ["DcpAsync", "Ours", "Waiting", "Way", "dcp_save", "limits", "plain_tensors", "torch_save"]


class Way(ABC):
    """One way to save. `begin` is what training waits for; the rest is done meanwhile.

    Args:
        folder: of its checkpoints, which is emptied after each.
    """

    guards = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()

    @abstractmethod
    def begin(self, step: int, state: State) -> None:
        """Begins to save; the state may change as soon as this returns."""

    def busy(self) -> bool:
        """Says whether something is still being done."""
        return False

    def end(self) -> None:
        """Waits, and removes the checkpoint."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Ours(Way):
    """distsae's saver.

    Args:
        folder: see `Way`.
        asynchronous: as `checkpoint.asynchronous`.
        nice: of the thread. Positive leaves the processors to training, where there are too few.
    """

    guards = "digests, read back and compared; fsync; one rename"

    def __init__(self, folder: Path, *, asynchronous: bool, nice: int = 0) -> None:
        super().__init__(folder)
        self._saver = Saver(Ranks(None), asynchronous)
        self._saver._thread.submit(_be_nice, nice).result()
        self._failure: CheckpointFailed | None = None

    def begin(self, step: int, state: State) -> None:
        """See `Way`."""
        self._saver.save(self.folder, step, state, {}, self._ended)

    def busy(self) -> bool:
        """See `Way`."""
        return self._saver.busy

    def end(self) -> None:
        """See `Way`."""
        self._saver.wait()
        if self._failure is not None:
            raise self._failure
        super().end()

    def close(self) -> None:
        """See `Way`."""
        self._saver.close()
        super().close()

    def _ended(self, failure: CheckpointFailed | None) -> None:
        self._failure = failure


class Waiting(Way):
    """A way that training waits for.

    Args:
        folder: see `Way`.
        save: a state under a path.
        guards: what it guards against.
    """

    def __init__(self, folder: Path, save: Callable[[dict[str, Tensor], Path], object], guards: str) -> None:
        super().__init__(folder)
        self._save, self.guards = save, guards

    def begin(self, step: int, state: State) -> None:
        """See `Way`."""
        self._save(plain_tensors(state), self.folder / str(step))


class DcpAsync(Way):
    """`torch.distributed.checkpoint.async_save`, with its defaults."""

    guards = "fsync; metadata last"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._going: Future[Any] | None = None

    def begin(self, step: int, state: State) -> None:
        """See `Way`."""
        self._going = dcp.async_save(plain_tensors(state), checkpoint_id=self.folder / str(step))

    def busy(self) -> bool:
        """See `Way`."""
        return self._going is not None and not self._going.done()

    def end(self) -> None:
        """See `Way`."""
        assert self._going is not None
        self._going.result()
        super().end()


def _be_nice(nice: int) -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def torch_save(state: dict[str, Tensor], path: Path) -> None:
    """torch.save."""
    torch.save(state, path)


def dcp_save(state: dict[str, Tensor], path: Path) -> None:
    """`torch.distributed.checkpoint.save`, with its defaults."""
    dcp.save(state, checkpoint_id=path, no_dist=True)


def plain_tensors(state: State) -> dict[str, Tensor]:
    """Returns the tensors of a state of one process."""
    locals_ = {name: value.local if isinstance(value, Shard) else value for name, value in state.items()}
    return {name: value for name, value in locals_.items() if isinstance(value, Tensor)}


def limits(state: State, folder: Path, kept: dict[str, Tensor]) -> dict[str, float]:
    """Returns the seconds of what no way to save can do without.

    Args:
        state: whose bytes are copied and written.
        folder: to write in.
        kept: memory of copies, from one call to the next.
    """
    tensors = plain_tensors(state)
    seconds = {"copy, fresh memory": _seconds(lambda: [tensor.clone() for tensor in tensors.values()])}
    if not kept:
        kept |= {name: tensor.clone() for name, tensor in tensors.items()}
    seconds["copy, memory in use"] = _seconds(lambda: [kept[name].copy_(one) for name, one in tensors.items()])
    path = folder / "raw"
    seconds["write and fsync"] = _seconds(lambda: _raw_write(tensors, path))
    path.unlink()
    return seconds


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _raw_write(tensors: dict[str, Tensor], path: Path) -> None:
    with path.open("xb", buffering=0) as file:
        for tensor in tensors.values():
            data = tensor.detach().reshape(-1).view(torch.uint8).numpy().data
            while len(data):
                data = data[file.write(data) :]
        os.fsync(file.fileno())
