"""One SAE's run: a batch in, one optimizer step; checkpoints, metrics and the finished SAE in its folder."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from distsae import __version__
from distsae.allocation import Selector
from distsae.batches import STREAMS
from distsae.checkpoint import JSON, Ranks, abandon_after, load
from distsae.errors import CannotContinue, NonFiniteScores
from distsae.losses import CollapseAlarms, Concentration, Underused
from distsae.progress import say
from distsae.training.config import TrainConfig
from distsae.training.folder.checkpoints import RunCheckpoints
from distsae.training.folder.resume import ResumePoint, find_resume_point
from distsae.training.folder.run_folder import RunFolder
from distsae.training.folder.unit_release import UnitRelease
from distsae.training.freezing.frozen_sae import frozen_sae
from distsae.training.freezing.gap import FrozenGap
from distsae.training.freezing.heldout_check import heldout_values
from distsae.training.guards.accelerator import Tracking
from distsae.training.guards.diagnosis import Circumstances, Diagnosis
from distsae.training.initial_state import initial_shard, initial_state
from distsae.training.initial_weights import begin_from
from distsae.training.job import Job
from distsae.training.metrics import Meter, TrainingClock
from distsae.training.step.accumulation import joined, micro_batches
from distsae.training.step.forward_backward import training_step
from distsae.training.step.selection_cost import SelectionCost, watched

__all__ = ["Run"]


class Run:
    """One process's part of a run. Whoever steps it reads the batches: `start`, `step` for each, `finish`.

    Args:
        config: the run, with `hook` and `steps`.
        job: that it is part of.
        folder: of the run.
        clock: of its training.
        name: of the run among those of a sweep; what it says begins with it.

    Attributes:
        done: steps done.
        track: takes the values of a logged line and its step, beside the folder.
    """

    def __init__(self, config: TrainConfig, job: Job, folder: RunFolder, clock: TrainingClock, name: str = "") -> None:
        assert config.hook is not None
        assert config.steps is not None
        store = job.store
        reader = job.reader
        mesh = job.mesh
        accelerator = job.accelerator
        self.config = config
        self.store = store
        self.reader = reader
        self.mesh = mesh
        self.accelerator = accelerator
        self.steps = config.steps
        self.hook = config.hook
        self.device = accelerator.device
        self.folder = folder
        self.done = 0
        self.name = name
        self.track: Tracking = accelerator.log
        self.units = UnitRelease(store, reader.order, self.steps, self.folder.name)
        main = accelerator.is_main_process
        self.checkpoints = RunCheckpoints(config.checkpoint, self.folder, self.units, job.saver, self._say, tidies=main)
        self._ranks = Ranks(mesh.device_mesh)
        self._ranks.only_first(lambda: folder.occupy() if folder.begun else None)
        self._point = find_resume_point(config, self.folder, store, self._ranks)
        sealed = store.statistics(self.hook)
        self.mean = reader.normalisation.apply(sealed.mean.clone()).to(self.device)
        self.variance = sealed.variance * reader.normalisation.scale**2
        shard = initial_shard(config, self.mean, mesh, self.device)
        if config.init is not None and self._point is None:
            begin_from(config.init, shard, config.sae.d_sae, reader.normalisation)
        self.state = initial_state(config, shard, mesh)
        self.alarms = CollapseAlarms(config.alarms)
        self.clock = clock
        self.heldout = job.heldout
        self.watchdog = job.watchdog
        self.meter = Meter(config.batch_tokens, clock)
        free = self.checkpoints.wait_and_free
        self.diagnosis = Diagnosis(config, folder, self.state, self._ranks, store.fingerprint, free)

    @property
    def nothing_left(self) -> bool:
        """Whether the run is finished, and its rows are gone.

        To write the SAE once more would take rows of a bounded store, and perhaps nobody is there to produce them.
        """
        return self._point is not None and self._point.finished and self.units.bounded

    @property
    def may_end(self) -> bool:
        """Whether the run may wait long for its next rows, those of a bounded store, and has nothing to lose now."""
        return self.units.bounded and (not self.done or self.checkpoints.hold(self.done))

    def start(self) -> None:
        """Takes up the newest checkpoint, if there is one, and makes the folder ready. All processes meet after it."""
        self._ranks.only_first(self._occupy)
        if self._point is not None:
            self._resume(self._point)
        if self.accelerator.is_main_process:
            self.folder.write_config(self.config)
            self.folder.metrics.keep_until(self.done)
            self.units.start_reading(min(self.done, self.steps - 1))

    def _occupy(self) -> None:
        self.folder.occupy()
        if self._point is None and self.folder.saved:
            raise CannotContinue(f"{self.folder.path} was begun by another job meanwhile; start the command again")

    def introduce(self) -> None:
        """Says what is about to be trained."""
        config, rate = self.config, self.config.optimizer.peak_rate(self.config.sae.d_sae)
        self._say(
            f"training d_sae {config.sae.d_sae}, k {config.sae.k}, {config.allocation}, aux {config.aux} on "
            f"{self.store.rows:,} rows of {self.hook}; "
            f"mesh {config.mesh.data} x {config.mesh.feature} (data x feature), {self.device.type}; "
            f"steps {self.done} to {self.steps} of {config.batch_tokens} tokens, lr {rate:.2g}"
        )

    def step(self, x: Tensor) -> dict[str, float | str]:
        """Does the next optimizer step, and what is due after it.

        Args:
            x: this data rank's rows of global batch `done`, fp32 `[tokens, d_in]`.

        Returns:
            Values for people; empty unless a line was logged.
        """
        config = self.config
        state = self.state
        step = self.done
        meter = self.meter
        self._begins(step + 1, "selecting and stepping")
        line = state.phases.prepare(step, state.statistics)
        if line:
            self._say(line)
        if step and state.phases.allocation(step) != state.phases.allocation(step - 1):
            state.thresholds.restart()
        selector = state.phases.selector
        selectors: list[Selector] = [selector]
        if state.underused.share > 0:
            state.auxiliary.allowed = state.underused.members.to(self.device)
            selectors.append(state.auxiliary)
        rate = config.optimizer.rate(step, self.steps, state.d_sae)
        how = Circumstances(rate, state.phases.allocation(step), state.phases.k)
        cost = SelectionCost()
        outcomes = []
        shortfall = 0
        every = watched([*selectors, *state.phases.observers], self.mesh, cost)
        for part in micro_batches(x, STREAMS // self.mesh.data.size, config.accumulation):
            state.phases.grant(config.batch_tokens // config.accumulation)
            try:
                outcome = training_step(
                    state.shard,
                    part,
                    self.mesh,
                    state.d_sae,
                    every[: len(selectors)],
                    self.mean,
                    self.variance,
                    config.auxiliary.alpha,
                    every[len(selectors) :],
                    1 / config.accumulation,
                )
            except NonFiniteScores as error:
                self.diagnosis.stop(step + 1, str(error), x, how, cause=error)
            outcomes.append(outcome)
            shortfall += selector.shortfall
            state.thresholds.update(selector)
        outcome = joined(outcomes)
        self.diagnosis.check_loss(step + 1, outcome, x, how)
        gradient_norm = state.engine.update(outcome.gradients, rate)
        self.diagnosis.check_gradient(step + 1, gradient_norm, outcome, x, how)
        if state.average is not None:
            state.average.update(step)
        state.statistics.update(outcome.matches.feature, config.batch_tokens, self.mesh.data)
        state.phases.observe(outcome.observed)
        meter.add(outcome, state.phases.budget, shortfall, gradient_norm, cost)
        self.done = done = step + 1
        if done % config.auxiliary.refresh_steps == 0 or done == self.steps:
            state.underused = Underused.measure(state.statistics, config.aux, config.auxiliary.rho, self.mesh.feature)
        shown: dict[str, float | str] = {}
        if done % config.log_every == 0 or done == self.steps:
            gap = self._evaluate()
            found = Concentration.measure(state.statistics, self.mesh.feature)
            threshold = state.thresholds.mean(self.mesh, self.device)
            values = meter.line(
                done, rate, threshold, state.underused, found, state.phases.allocation(step), state.phases.k
            )
            values |= heldout_values(gap)
            self._log(values)
            for warning in self.alarms.check(done, found):
                self._say(warning)
            shown = {
                "loss": values["loss"],
                "L0": values["l0"],
                "dead": values["dead_share"],
                "tok_s": values["tokens_per_second"],
            }
        if done % config.checkpoint.every == 0 or done == self.steps or self.units.due(done):
            self.diagnosis.check_weights(done, x, how)
            self._save()
        return shown

    def pause(self) -> None:
        """Makes sure that there is a checkpoint of the last step, to go on from."""
        if self.done and not self.checkpoints.attempted(self.done):
            self._save()
        self.checkpoints.require()

    def finish(self) -> None:
        """Freezes the rule and writes the SAE; the run cannot be stepped afterwards.

        Raises:
            CheckpointFailed: of the last step; the SAE was written.
        """
        state = self.state
        self.checkpoints.wait_and_free()
        del state.engine  # Adam's moments: twice the memory of the weights, which the end has a use for
        with state.final_weights():
            sae, gap = frozen_sae(self.config, self.store, state, self.mesh, self.reader)
        if sae is not None:
            self.folder.write_frozen_rule(dataclasses.asdict(gap))
            sae.save(self.folder.sae)  # last: it says that the run is finished
            self._say(gap.sentence())
            self._say(f"wrote {self.folder.sae}")
        self.checkpoints.require()  # a run that is started again needs the rows that `end` gives away
        self.end()

    def _begins(self, step: int, what: str) -> None:
        self.watchdog.working_on(f"{self.name}: step {step}: {what}" if self.name else f"step {step}: {what}")

    def _say(self, line: str) -> None:
        say(f"{self.name}: {line}" if self.name else line)

    def end(self) -> None:
        """Says that the run needs its rows no more."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.units.finished()

    def _evaluate(self) -> FrozenGap | None:
        """Measures on held-out rows if that is due after the last step."""
        every, state = self.config.evaluate_every, self.state
        if every is None or (self.done % every and self.done < self.steps):
            return None
        self._begins(self.done, "measuring on held-out rows")
        with self.clock.stopped(), state.final_weights():
            return self.heldout.measure(state.shard, self.config, state.phases, state.thresholds, self.mesh)

    def _log(self, values: dict[str, Any]) -> None:
        if self.accelerator.is_main_process and (warning := self.folder.metrics.append(values)):
            self._say(warning)
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        self.track(numbers, values["step"])

    def _resume(self, point: ResumePoint) -> None:
        """Restores the checkpoint to go on from."""
        self.state.phases.restore(point.step, point.facts["switch_step"], self.state.statistics)
        tensors = self.state.tensors()
        load(point.path, tensors, self.mesh.device_mesh, checked=True)
        self.state.engine.restore(tensors)
        self.state.underused = dataclasses.replace(self.state.underused, **point.facts["underused"])
        self.state.restore_forecasts(point.facts.get("forecasts", {}))  # older checkpoints have none
        self.meter.restore(point.facts["meter"])
        self.alarms.restore(point.facts.get("alarms", []))  # older checkpoints have none
        changes = f"; other than before: {', '.join(point.changes)}" if point.changes else ""
        self._say(f"resumed from {point.path}, step {point.step}{changes}")
        if self.accelerator.is_main_process:
            for path in abandon_after(self.folder.checkpoints, point.step):
                self._say(f"set aside a checkpoint of a later step as {path}")
        self.done = point.step
        self.checkpoints.resumed(point.step)

    def _save(self) -> None:
        self._begins(self.done, "saving a checkpoint")
        facts: dict[str, JSON] = {
            "store_fingerprint": self.store.fingerprint,
            "underused": {**self.state.underused.numbers()},
            "forecasts": {name: {**forecast} for name, forecast in self.state.forecasts().items()},
            "meter": {**self.meter.facts()},
            "alarms": [*self.alarms.facts()],
            "switch_step": self.state.phases.switch_step,
            "config": self.config.stored(),
            "distsae_version": __version__,
        }
        self.checkpoints.save(self.done, self.state.tensors(), facts)
