"""The training loop: batches in, one step of the run each."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from distsae.batches import BatchReader, StreamOrder
from distsae.errors import WrongInput
from distsae.parallel import build_mesh
from distsae.progress import Progress, say
from distsae.store import Store
from distsae.training.config import TrainConfig
from distsae.training.heldout_check import HeldoutCheck
from distsae.training.launch import check_processes, start_accelerator, start_tracking
from distsae.training.metrics import TrainingClock
from distsae.training.run import Run
from distsae.training.run_folder import RunFolder
from distsae.training.unit_release import UnitRelease

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["train"]

_ROUNDING = 1e-12
"""Variance of rows that are all the same, relative to their squared norm: sums in fp64 leave 1e-16 or so."""


def train(config: TrainConfig) -> None:
    """Trains one SAE, feature-parallel over the processes of the job; every process calls it.

    Raises:
        WrongInput: the configuration does not fit the store, the processes or the run folder; nothing was written.
        NonFiniteScores: a score was not finite; the step is named.
    """
    check_processes(config.mesh)
    store = Store.open(config.store)
    config = _resolved(config, store)
    RunFolder(config.out).check(config)
    accelerator = start_accelerator(config)
    try:
        _train(config, store, accelerator)
    finally:
        accelerator.end_training()


def _resolved(config: TrainConfig, store: Store) -> TrainConfig:
    """Fills in what the store decides: the hook if it has one only, and the steps of one epoch."""
    hook = config.hook
    if hook is None:
        if len(store.attributes.hooks) > 1:
            raise WrongInput(f"`hook` must be given; {store.path} holds {', '.join(store.attributes.hooks)}")
        hook = store.attributes.hooks[0]
    store.require_hook(hook)
    statistics = store.statistics(hook)
    if statistics.variance <= _ROUNDING * statistics.mean_norm**2:
        raise WrongInput(
            f"`hook` (={hook}) must have rows that differ; all of {store.path} are the same; choose another hook"
        )
    if config.evaluate_every is not None and not store.heldout_rows:
        raise WrongInput(
            f"`evaluate_every` (={config.evaluate_every}) must be left out: {store.path} has no held-out rows"
        )
    order = StreamOrder.of(store, config.batch_tokens, config.seed)
    config = dataclasses.replace(config, hook=hook, steps=config.steps or order.steps_per_epoch)
    assert config.steps is not None
    UnitRelease(store, order, config.steps, RunFolder(config.out).name)  # refuses what cannot be
    return config


def _train(config: TrainConfig, store: Store, accelerator: Accelerator) -> None:
    assert config.hook is not None
    assert config.steps is not None
    mesh = build_mesh(config.mesh, accelerator.num_processes, accelerator.device.type)
    reader = BatchReader(
        store, config.hook, config.batch_tokens, config.seed, mesh.data.rank, mesh.data.size, config.normalise
    )
    try:
        heldout = HeldoutCheck(store, config.hook, reader.normalisation)
        run = Run(config, store, reader, mesh, accelerator, heldout, TrainingClock())
        if run.nothing_left:
            run.end()
            say(f"{run.folder.path} is finished: nothing to do")
            return
        run.begin()
        accelerator.wait_for_everyone()  # else a rank might look for units that still count as released
        start_tracking(accelerator, config)
        run.introduce()
        with Progress(config.steps, "train", "steps", done=run.done) as progress:
            for step in range(run.done, config.steps):
                progress.advance(0, **run.step(reader.batch(step).to(accelerator.device)))
                progress.advance(1)
        run.finish()
    finally:
        reader.close()  # else a thread that waits for rows would keep the process alive
