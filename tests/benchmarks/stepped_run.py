"""A training run whose steps are taken one at a time, so that several runs of one process can take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from distsae.batches import BatchReader
from distsae.checkpoint import Ranks, Saver
from distsae.parallel import build_mesh
from distsae.store import Store
from distsae.training import TrainConfig
from distsae.training.folder import start_tracking
from distsae.training.folder.run_folder import RunFolder
from distsae.training.freezing.heldout_check import HeldoutCheck
from distsae.training.guards import start_accelerator
from distsae.training.guards.watchdog import Watchdog
from distsae.training.job import Job
from distsae.training.metrics import TrainingClock
from distsae.training.run import Run

__all__ = ["Taken", "begun", "stepped", "timed"]


@dataclass(frozen=True)
class Taken:
    """What a step took.

    Args:
        processor: processor seconds of all threads of this process, those of reading the next batch included.
        wall: seconds.
    """

    processor: float
    wall: float


def timed(work: Callable[[], object]) -> Taken:
    """Does some work and returns what it took."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Taken(time.process_time() - processor, time.perf_counter() - wall)


@contextmanager
def stepped(config: TrainConfig) -> Iterator[Callable[[], Taken]]:
    """Gives a function that does the next step of a run, and settles the reading that it has begun.

    Args:
        config: with `hook` and `steps`.
    """
    with begun(config) as (_, step):
        yield step


@contextmanager
def begun(config: TrainConfig) -> Iterator[tuple[Run, Callable[[], Taken]]]:
    """Gives the run itself beside what `stepped` gives."""
    assert config.hook is not None
    accelerator = start_accelerator(config)
    store, mesh = Store.open(config.store), build_mesh(config.mesh, 1, accelerator.device.type)
    reader = BatchReader(store, config.hook, config.batch_tokens, config.seed, 0, 1, config.normalise)
    try:
        heldout = HeldoutCheck(store, config.hook, reader)
        ranks = Ranks(mesh.device_mesh)
        with closing(Saver(ranks, config.checkpoint.asynchronous)) as saver:
            job = Job(store, reader, mesh, accelerator, heldout, saver, ranks, Watchdog(None))
            run = Run(config, job, RunFolder(config.out), TrainingClock())
            run.start()
            start_tracking(accelerator, config)

            def step() -> None:
                run.step(reader.batch(run.done).to(accelerator.device))
                reader.wait_until_ahead()

            yield run, lambda: timed(step)
    finally:
        reader.close()
        accelerator.end_training()
