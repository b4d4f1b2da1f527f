"""The training run: store in, run folder out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

from distsae.allocation import MutualSelector, Selector
from distsae.batches import BatchReader, StreamOrder
from distsae.checkpoint import JSON, Shard, abandon_after, load, prune, save
from distsae.errors import NonFiniteScores, WrongInput
from distsae.losses import CollapseAlarms, Concentration, FiringStatistics, Underused
from distsae.model import FeatureShard
from distsae.parallel import Mesh, build_mesh
from distsae.progress import Progress, say
from distsae.store import Store
from distsae.training.config import TrainConfig
from distsae.training.deepspeed_engine import DeepSpeedEngine
from distsae.training.engine import Engine
from distsae.training.finish import frozen_sae
from distsae.training.launch import check_processes, start_accelerator, start_tracking
from distsae.training.metrics import Meter
from distsae.training.phases import Phases
from distsae.training.plain_engine import PlainEngine
from distsae.training.resume import ResumePoint, find_resume_point
from distsae.training.run_folder import RunFolder
from distsae.training.selection_cost import SelectionCost, watched
from distsae.training.state import TrainingState
from distsae.training.step import training_step
from distsae.training.thresholds import ThresholdTracker
from distsae.training.unit_release import UnitRelease

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["train"]


def train(config: TrainConfig) -> None:
    """Trains one SAE, feature-parallel over the processes of the job; every process calls it.

    Raises:
        WrongInput: the configuration does not fit the store, the processes or the run folder; nothing was written.
        NonFiniteScores: a score was not finite; the step is named.
    """
    check_processes(config.mesh)
    store = Store.open(config.store)
    config = _resolved(config, store)
    folder = RunFolder(config.out)
    folder.check(config)
    accelerator = start_accelerator(config)
    try:
        _Run(config, store, folder, accelerator).go()
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
    order = StreamOrder.of(store, config.batch_tokens, config.seed)
    config = dataclasses.replace(config, hook=hook, steps=config.steps or order.steps_per_epoch)
    assert config.steps is not None
    UnitRelease(store, order, config.steps, RunFolder(config.out).name)  # refuses what cannot be
    return config


class _Run:
    """One process's part of a run."""

    def __init__(self, config: TrainConfig, store: Store, folder: RunFolder, accelerator: Accelerator) -> None:
        assert config.hook is not None
        assert config.steps is not None
        self.config, self.store, self.folder, self.accelerator = config, store, folder, accelerator
        self.steps, self.hook, self.device = config.steps, config.hook, accelerator.device
        self.mesh: Mesh = build_mesh(config.mesh, accelerator.num_processes, self.device.type)
        d_sae, features = config.sae.d_sae, self.mesh.features(config.sae.d_sae)
        self.reader = BatchReader(
            store,
            self.hook,
            config.batch_tokens,
            config.seed,
            self.mesh.data.rank,
            self.mesh.data.size,
            config.normalise,
        )
        self.units = UnitRelease(store, self.reader.order, self.steps, folder.name)
        sealed = store.statistics(self.hook)
        normalisation = self.reader.normalisation
        self.mean = normalisation.apply(sealed.mean.clone()).to(self.device)
        self.variance = sealed.variance * normalisation.scale**2
        shard = FeatureShard(store.d_in(self.hook), features, self.mean.cpu(), config.seed, config.selection_mb).to(
            self.device
        )
        auxiliary = config.auxiliary
        self.state = TrainingState(
            shard=shard,
            engine=self._engine(shard),
            phases=Phases(config, self.steps, self.mesh, self.device),
            statistics=FiringStatistics(
                len(features), auxiliary.window_tokens, auxiliary.dead_after_tokens, self.device
            ),
            thresholds=ThresholdTracker(len(features)),
            underused=Underused.none(len(features)),
            d_sae=d_sae,
        )
        self.alarms = CollapseAlarms(config.alarms)
        self.aux_selector = MutualSelector(config.sae.k * auxiliary.k_per_k)

    def _engine(self, shard: FeatureShard) -> Engine:
        if self.config.engine == "plain":
            return PlainEngine(shard, self.mesh, self.config.optimizer)
        return DeepSpeedEngine(shard, self.mesh, self.config.optimizer, self.config.deepspeed)

    def go(self) -> None:
        """Trains from the newest checkpoint, or from the start, to the end."""
        point = find_resume_point(self.config, self.folder, self.store)
        if point is not None and point.finished and self.units.bounded:
            # To write the SAE once more would take rows that are gone, and perhaps nobody is there to produce them.
            self._end()
            say(f"{self.folder.path} is finished: nothing to do")
            return
        meter = Meter(self.config.batch_tokens)
        first = 0 if point is None else self._resume(point, meter)
        if self.accelerator.is_main_process:
            self.folder.write_config(self.config)
            self.folder.keep_metrics_until(first)
            self.units.begin(min(first, self.steps - 1))
        self.accelerator.wait_for_everyone()  # else a rank might look for units that still count as released
        start_tracking(self.accelerator, self.config)
        self._introduce(first)
        try:
            with Progress(self.steps, "train", "steps", done=first) as progress:
                for step in range(first, self.steps):
                    self._step(step, meter, progress)
                    done = step + 1
                    if done % self.config.checkpoint.every == 0 or done == self.steps or self.units.due(done):
                        self._save(done, meter)
            self._finish()
        finally:
            self.reader.close()  # else a thread that waits for rows would keep the process alive

    def _step(self, step: int, meter: Meter, progress: Progress) -> None:
        """Does optimizer step `step`, counted from 0."""
        config, state = self.config, self.state
        line = state.phases.prepare(step, state.statistics)
        if line:
            say(line)
        if step and state.phases.allocation(step) != state.phases.allocation(step - 1):
            state.thresholds.restart()
        selector = state.phases.selector
        selectors: list[Selector] = [selector]
        if state.underused.share > 0:
            self.aux_selector.allowed = state.underused.members.to(self.device)
            selectors.append(self.aux_selector)
        x = self.reader.batch(step).to(self.device)
        cost = SelectionCost()
        every = watched([*selectors, *state.phases.observers], self.mesh, cost)
        try:
            outcome = training_step(
                state.shard,
                x,
                self.mesh,
                state.d_sae,
                every[: len(selectors)],
                self.mean,
                self.variance,
                config.auxiliary.alpha,
                every[len(selectors) :],
            )
        except NonFiniteScores as error:
            raise NonFiniteScores(f"step {step + 1}: {error}; lower `optimizer.lr` or check the store") from error
        rate = config.optimizer.rate(step, self.steps, state.d_sae)
        gradient_norm = state.engine.update(rate)
        state.thresholds.update(selector)
        state.statistics.update(outcome.matches.feature, config.batch_tokens, self.mesh.data)
        state.phases.observe(outcome.observed)
        meter.add(outcome, config.sae.k * config.batch_tokens, selector.shortfall, gradient_norm, cost)
        done = step + 1
        if done % config.auxiliary.refresh_steps == 0 or done == self.steps:
            state.underused = Underused.measure(state.statistics, config.aux, config.auxiliary.rho, self.mesh.feature)
        if done % config.log_every == 0 or done == self.steps:
            found = Concentration.measure(state.statistics, self.mesh.feature)
            values = meter.line(
                done, rate, self._mean_threshold(), state.underused, found, state.phases.allocation(step)
            )
            self._log(values)
            for warning in self.alarms.check(done, found):
                say(warning)
            progress.advance(
                0, loss=values["loss"], L0=values["l0"], dead=values["dead_share"], tok_s=values["tokens_per_second"]
            )
        progress.advance(1)

    def _log(self, values: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.folder.log(values)
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        self.accelerator.log(numbers, step=values["step"])

    def _mean_threshold(self) -> float | None:
        """Returns the mean tracked threshold, on the scale of normalised activations."""
        tracked = self.state.thresholds.thresholds()
        known = tracked.isfinite()
        sums = torch.stack([torch.where(known, tracked, 0.0).sum(), known.sum().double()])
        total, count = self.mesh.feature.sum(sums.to(self.device)).tolist()
        return total / count if count else None

    def _resume(self, point: ResumePoint, meter: Meter) -> int:
        """Restores the checkpoint to go on from; returns the steps done."""
        self.state.phases.restore(point.step, point.facts["switch_step"], self.state.statistics)
        tensors = self.state.tensors()
        load(point.path, tensors, self.mesh.device_mesh)
        self.state.engine.restore({name: t.local if isinstance(t, Shard) else t for name, t in tensors.items()})
        self.state.underused = dataclasses.replace(self.state.underused, **point.facts["underused"])
        meter.restore(point.facts["meter"])
        self.alarms.restore(point.facts.get("alarms", []))  # older checkpoints have none
        say(f"resumed from {point.path}, step {point.step}")
        if self.accelerator.is_main_process:
            for path in abandon_after(self.folder.checkpoints, point.step):
                say(f"set aside a checkpoint of a later step as {path}")
        return point.step

    def _save(self, done: int, meter: Meter) -> None:
        facts: dict[str, JSON] = {
            "store_fingerprint": self.store.fingerprint,
            "underused": {**self.state.underused.numbers()},
            "meter": {**meter.state()},
            "alarms": [*self.alarms.state()],
            "switch_step": self.state.phases.switch_step,
            "config": dataclasses.asdict(self.config),
        }
        save(self.folder.checkpoints, done, self.state.tensors(), facts, self.mesh.device_mesh)
        if self.accelerator.is_main_process:
            keep = self.config.checkpoint
            prune(self.folder.checkpoints, keep.keep_last, keep.keep_every)
            self.units.saved(done)

    def _introduce(self, first: int) -> None:
        config = self.config
        rate = config.optimizer.peak_rate(config.sae.d_sae)
        say(
            f"training d_sae {config.sae.d_sae}, k {config.sae.k}, {config.allocation}, aux {config.aux} on "
            f"{self.store.rows:,} rows of {self.hook}; "
            f"mesh {config.mesh.data} x {config.mesh.feature} (data x feature), {self.device.type}; "
            f"steps {first} to {self.steps} of {config.batch_tokens} tokens, lr {rate:.2g}"
        )

    def _finish(self) -> None:
        state = self.state
        sae, gap = frozen_sae(
            self.config,
            self.hook,
            self.store,
            state.shard,
            self.mesh,
            state.phases,
            state.thresholds,
            self.reader,
            self.steps,
        )
        if sae is not None:
            self.folder.write_frozen_rule(dataclasses.asdict(gap))
            sae.save(self.folder.sae)  # last: it says that the run is finished
            say(gap.sentence())
            say(f"wrote {self.folder.sae}")
        self._end()

    def _end(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.units.finished()
