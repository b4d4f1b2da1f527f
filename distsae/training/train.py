"""A training job: one run, or the runs of a sweep, checked, set up and trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TYPE_CHECKING

from distsae.batches import STREAMS, BatchReader, StreamOrder
from distsae.checkpoint import Ranks, Saver
from distsae.errors import WrongInput
from distsae.parallel import build_mesh
from distsae.progress import say
from distsae.store import Store
from distsae.training.config import TrainConfig
from distsae.training.folder import RunFolder, UnitRelease
from distsae.training.freezing import HeldoutCheck
from distsae.training.guards import (
    StopVote,
    Watchdog,
    check_processes,
    ended_if_unheard,
    lack_of_memory_named,
    leave_together,
    leave_with,
    longest_wait,
    lost_ranks_named,
    require_agreement,
    set_timeout,
    start_accelerator,
    wait_for_main_machine,
)
from distsae.training.initial_state import sae_to_begin_from
from distsae.training.job import Job
from distsae.training.loop import train_runs
from distsae.training.metrics import TrainingClock, all_stopped
from distsae.training.phases import require_every_phase
from distsae.training.run import Run
from distsae.training.sweep import members, naming
from distsae.training.trained_run import TrainedRun

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Loop", "checked", "train"]

Loop = Callable[[list[Run], BatchReader, "Accelerator", StopVote, Watchdog], None]
"""Type of `train_runs`, and of what a test may put in its place to step the runs itself."""

Check = Callable[[Store, list[TrainConfig]], None]
"""Type of a further check of the store and of the config of each run."""

_ROUNDING = 1e-12
"""Largest variance, relative to the squared mean norm, of rows that count as equal: sums in fp64 leave about 1e-16."""


def train(config: TrainConfig, loop: Loop = train_runs, check: Check = lambda store, runs: None) -> TrainedRun:
    """Trains one SAE, or the SAEs of a sweep, over all processes of the job. Every process calls it.

    Alone, it is a function like any other, for a notebook too; under `accelerate launch` every rank gets the result,
    which rank 0 has written. When it raises, the process group stays as it is: end the process, as to destroy the group
    may mean to wait for other ranks.

    Args:
        config: configuration of the run, or of all runs of a sweep.
        loop: function that trains the runs once they are set up.
        check: function that may refuse the runs before other processes are needed, such as `planning.require_room`.

    Returns:
        The finished run; of a sweep, its runs are the `members`.

    Raises:
        WrongInput: the configuration does not fit the store, the processes or the run folder; nothing was written.
        Diverged: a score, loss or gradient was not finite; the message names the step and the ranks. The other members
            of a sweep have been trained to their end.
        CannotContinue: another process was lost, or the GPU has no room.
        CheckpointFailed: a checkpoint that had to be on the disk could not be saved: the last one (the SAE was
            written), one at the end of a window, or one before a stop.
        SystemExit: SIGTERM, SIGUSR1 or SIGHUP stopped the job after a checkpoint; the code is `STOPPED`.
        KeyboardInterrupt: Ctrl-C stopped the job after a checkpoint.
    """
    check_processes(config.mesh)
    store, configs = checked(config)
    check(store, list(configs.values()))
    longest = longest_wait(config.hang_seconds, bounded=store.attributes.keep_units is not None)
    wait_for_main_machine()
    with StopVote() as stop, Watchdog(config.hang_seconds) as watchdog:
        with lost_ranks_named(lambda: watchdog.activity), ended_if_unheard():
            accelerator = start_accelerator(config, longest)
        try:
            with lost_ranks_named(lambda: watchdog.activity), lack_of_memory_named(lambda: watchdog.activity):
                require_agreement(config, store.fingerprint)
                _train(configs, store, accelerator, stop, watchdog, longest, loop)
        except BaseException as error:
            leave_with(error, accelerator, watchdog)
            raise
        leave_together(accelerator, watchdog)
    finished = {name: TrainedRun(RunFolder(member.out).path) for name, member in configs.items() if name}
    return TrainedRun(RunFolder(config.out).path, finished)


def checked(config: TrainConfig) -> tuple[Store, dict[str, TrainConfig]]:
    """Checks all that can be checked without the other processes, before anything is written.

    Returns:
        The store, and the configuration of each run by its name in the sweep, with `hook` and `steps` filled in. The
        name of a run alone is empty.

    Raises:
        WrongInput: the configuration does not fit the store or the run folder, or `init` does not fit the run.
    """
    store = Store.open(config.store)
    config = _resolved(config, store)
    configs = members(config)
    for name, member in configs.items():
        with naming(name):
            folder = RunFolder(member.out)
            folder.check(member)
            if member.init is not None and not folder.holds_run:  # a run that has begun no longer needs it
                assert member.hook is not None
                width = store.d_in(member.hook)
                sae_to_begin_from(member.init, width, member.sae.d_sae, token=member.normalise == "token")
    return store, configs


def _resolved(config: TrainConfig, store: Store) -> TrainConfig:
    """Returns the config with the values that follow from the store: its only hook, and the steps of one epoch."""
    hook = config.hook
    if hook is None:
        if len(store.attributes.hooks) > 1:
            hooks = ", ".join(store.attributes.hooks)
            raise WrongInput(f"`hook` must be given; {store.path} holds {hooks}; choose one")
        hook = store.attributes.hooks[0]
    store.require_hook(hook)
    if config.normalise == "token" and store.norms(hook) is None:
        raise WrongInput(
            f"`normalise` (=token) must have a store with histograms of norms; got {store.path}, which is from before "
            f"they were kept; run `distsae store measure {store.path}` once, or use `normalise` scale"
        )
    statistics = store.statistics(hook, _max_norm(config, store, hook))
    same_direction = (statistics.direction_variance or 0.0) <= _ROUNDING
    if statistics.variance <= _ROUNDING * statistics.mean_norm**2 or (config.normalise == "token" and same_direction):
        raise WrongInput(
            f"`hook` (={hook}) must have rows that differ; got rows that are equal, or equal when normalised, in "
            f"all of {store.path}; choose another hook"
        )
    if config.evaluate_every is not None and not store.heldout_rows:
        raise WrongInput(
            f"`evaluate_every` (={config.evaluate_every}) must be left out: {store.path} has no held-out rows; remove "
            "it, or produce a store with held-out rows"
        )
    if store.rows < STREAMS and store.attributes.keep_units is None:
        raise WrongInput(
            f"`store` (={config.store}) must have {STREAMS} training rows, for the smallest batch; got {store.rows}; "
            "produce more rows"
        )
    order = StreamOrder.of(store, config.batch_tokens, config.seed_of_order)
    if config.sweep.given() and store.attributes.keep_units is not None:
        raise WrongInput(
            f"`sweep` must be left out with the bounded store {store.path}, which has one reader; train one run on it, "
            "or produce a store that keeps all units"
        )
    config = dataclasses.replace(config, hook=hook, steps=config.steps or order.steps_per_epoch)
    assert config.steps is not None
    require_every_phase(config, config.steps)
    # Refuses steps that a bounded store cannot serve.
    UnitRelease(store, order, config.steps, RunFolder(config.out).name)
    return config


def _max_norm(config: TrainConfig, store: Store, hook: str) -> float | None:
    """Returns the norm over which rows are left out; None if all rows are kept."""
    norms = store.norms(hook)
    if config.max_norm_ratio == "none" or norms is None:
        return None
    return norms.limit(config.max_norm_ratio)


def _train(
    configs: dict[str, TrainConfig],
    store: Store,
    accelerator: Accelerator,
    stop: StopVote,
    watchdog: Watchdog,
    longest: timedelta,
    loop: Loop,
) -> None:
    """Sets up what the runs share, and the runs; trains those that are not finished. Collective."""
    shared = next(iter(configs.values()))  # all members read the same batches
    assert shared.hook is not None
    mesh = build_mesh(shared.mesh, accelerator.num_processes, accelerator.device.type)
    stop.group = mesh.aside()
    saving = mesh.aside()
    set_timeout(longest, [*mesh.groups(), stop.group])
    set_timeout(longest_wait(None, bounded=False), [saving])  # a slow disk is no fault; the watchdog limits the wait
    with ExitStack() as stack:
        reader = BatchReader(
            store,
            shared.hook,
            shared.batch_tokens,
            shared.seed_of_order,
            mesh.data.rank,
            mesh.data.size,
            shared.normalise,
            _max_norm(shared, store, shared.hook),
            accelerator.device,
        )
        stack.callback(reader.close)  # otherwise a thread that waits for rows would keep the process alive
        heldout = HeldoutCheck(store, shared.hook, reader)
        ranks = Ranks(mesh.device_mesh, saving)
        saver = Saver(ranks, shared.checkpoint.asynchronous)
        job = Job(store, reader, mesh, accelerator, heldout, saver, ranks, watchdog)
        runs: list[Run] = []
        for name, config in configs.items():
            folder = stack.enter_context(closing(RunFolder(config.out)))
            with naming(name), all_stopped(run.clock for run in runs):
                run = Run(config, job, folder, TrainingClock(), name)
            if run.nothing_left:
                run.end()
                say(f"{run.folder.path} is finished: nothing to do")
            else:
                runs.append(run)
        stack.callback(saver.close)  # before the folders are unlocked for other jobs
        if runs:
            loop(runs, reader, accelerator, stop, watchdog)
