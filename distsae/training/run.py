"""One SAE's run: an optimizer step for each batch; metrics, checkpoints and the finished SAE in its folder."""

from __future__ import annotations

from distsae.batches import Batch
from distsae.checkpoint import Ranks, abandon_after, load
from distsae.errors import CannotContinue
from distsae.progress import say
from distsae.training.config import TrainConfig
from distsae.training.folder import RunCheckpoints, RunFolder, Tracking, UnitRelease, find_resume_point
from distsae.training.freezing import FrozenGap, frozen_sae
from distsae.training.guards import Diagnosis, require_same_kernels
from distsae.training.initial_state import begin_from, initial_shard, initial_state
from distsae.training.job import Job
from distsae.training.logged_line import logged_line, shown_values
from distsae.training.metrics import TrainingClock
from distsae.training.optimizer_step import NonFiniteStep, StepSettings, training_step

__all__ = ["Run"]


class Run:
    """One process's part of a run. The loop calls `start`, then `step` with each batch, then `finish`.

    Args:
        config: configuration of the run, with `hook` and `steps`.
        job: the job that the run is part of.
        folder: folder of the run.
        clock: clock of the training time.
        name: name of the run in a sweep, which its messages start with; empty for a run alone.

    Attributes:
        state: state of the training.
        units: release of the units of a bounded store that the run no longer needs.
        checkpoints: checkpoints of the run.
        diagnosis: report that is written when a number is not finite, before the run ends.
        track: function that sends the numbers of a logged line, and its step, to experiment tracking.
    """

    def __init__(self, config: TrainConfig, job: Job, folder: RunFolder, clock: TrainingClock, name: str = "") -> None:
        assert config.hook is not None
        assert config.steps is not None
        self.config = config
        self.job = job
        self.folder = folder
        self.name = name
        self.track: Tracking = job.accelerator.log
        self.units = UnitRelease(job.store, job.reader.order, config.steps, folder.name)
        main = job.accelerator.is_main_process
        self.checkpoints = RunCheckpoints(config.checkpoint, folder, self.units, job.saver, self._say, is_main=main)
        self._ranks = Ranks(job.mesh.device_mesh)
        self._point = find_resume_point(config, folder, job.store, self._ranks)

        normalisation = job.reader.normalisation
        mean, variance = normalisation.moments(job.reader.statistics)
        mean = mean.to(job.accelerator.device)
        shard = initial_shard(config, mean, job.mesh, job.accelerator.device)
        require_same_kernels(shard.kernels.name)
        if config.init is not None and self._point is None:
            begin_from(config.init, shard, normalisation)
        self.state = initial_state(config, shard, job.mesh, mean, variance, clock)
        self.diagnosis = Diagnosis(
            config, folder, self.state, self._ranks, job.store.fingerprint, self.checkpoints.wait_and_free
        )

    @property
    def done(self) -> int:
        """Optimizer steps done."""
        return self.state.step

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.state.steps

    @property
    def clock(self) -> TrainingClock:
        """Clock of the run's training time."""
        return self.state.meter.clock

    @property
    def nothing_left(self) -> bool:
        """Whether the run is finished, and its bounded store may have deleted its rows.

        To write the SAE again, a producer would have to write those rows again.
        """
        return self._point is not None and self._point.finished and self.units.bounded

    @property
    def may_end(self) -> bool:
        """Whether the process may end while the run waits for the rows of a bounded store, as nothing would be lost."""
        return self.units.bounded and (not self.done or self.checkpoints.on_disk(self.done))

    def start(self) -> None:
        """Resumes from the newest checkpoint, if there is one, and prepares the folder. A barrier must follow."""
        self._ranks.only_first(self._lock_folder)
        if self._point is not None:
            self._resume()
        if self.job.accelerator.is_main_process:
            self.folder.write_config(self.config)
            self.folder.metrics.keep_until(self.done)
            self.units.start_reading(min(self.done, self.steps - 1))

    def introduce(self) -> None:
        """Prints what is about to be trained."""
        config = self.config
        rate = config.optimizer.peak_rate(config.sae.d_sae, self.steps)
        self._say(
            f"training d_sae {config.sae.d_sae}, k {config.sae.k}, {config.allocation}, aux {config.aux} on "
            f"{self.job.store.rows:,} rows of {config.hook}; mesh {config.mesh.data} x {config.mesh.feature} "
            f"(data x feature), {self.job.accelerator.device.type}; "
            f"steps {self.done} to {self.steps} of {config.batch_tokens} tokens, lr {rate:.2g}"
        )
        self._say(self._rows_left_out())
        if excluded := self.job.store.attributes.excluded_tokens:
            self._say(f"rows of the excluded tokens {[*excluded]} are left out")

    def _rows_left_out(self) -> str:
        """Returns a line on the rows that are left out."""
        config = self.config
        store = self.job.store
        limit = self.job.reader.max_norm
        assert config.hook is not None
        norms = store.norms(config.hook)
        if config.max_norm_ratio == "none":
            return "no row is left out, whatever its norm (max_norm_ratio none)"
        if norms is None or limit is None:
            return (
                f"no row is left out, whatever its norm: {store.path} is from before norms were kept; run `distsae "
                f"store measure {store.path}` once, and train into another folder"
            )
        share = norms.rows_over(limit) / norms.rows
        return (
            f"rows with norms over {limit:.4g}, about {config.max_norm_ratio:g} times the median {norms.median:.4g}, "
            f"are left out: {share:.2%} of the rows, with {norms.share_of_variance_over(limit):.1%} of the variance"
        )

    def step(self, batch: Batch) -> dict[str, float | str]:
        """Does the next optimizer step, and what is due after it. Collective.

        Args:
            batch: this data rank's rows of global batch `done`.

        Returns:
            Values for the progress bar; empty unless a line was logged.

        Raises:
            Diverged: on every rank, if a number is not finite; the run folder holds a diagnosis.
            CheckpointFailed: the checkpoint at the end of a window of a bounded store could not be saved.
        """
        self._working_on(self.done + 1, "selecting and stepping")
        try:
            settings = training_step(self.state, batch, self._say)
        except NonFiniteStep as error:
            self.diagnosis.stop(error.step, str(error), batch.x, error.settings, error.outcome, cause=error)
        last = self.done == self.steps
        shown = self._log(settings) if last or self.done % self.config.log_every == 0 else {}
        if last or self.done % self.config.checkpoint.every == 0 or self.units.checkpoint_due(self.done):
            self.diagnosis.check_weights(self.done, batch.x, settings)
            self._save()
        return shown

    def pause(self) -> None:
        """Waits until a checkpoint of the last step is on the disk.

        Raises:
            CheckpointFailed: it could not be saved.
        """
        if self.done and not self.checkpoints.attempted(self.done):
            self._save()
        self.checkpoints.require_saved()

    @property
    def in_trouble(self) -> bool:
        """Whether this process has found that the run's folder is gone or has become read-only."""
        return self.checkpoints.hopeless or self.folder.metrics.hopeless

    def rescue(self) -> None:
        """Saves what can be saved, if any rank has found trouble; if all can be, the run goes on. Collective.

        Raises:
            CheckpointFailed: the checkpoint or the lines of metrics could not be written.
        """
        if any(self._ranks.exchange(self.in_trouble)):
            self.pause()
            self._ranks.only_first(self.folder.metrics.require_written)

    def finish(self) -> None:
        """Freezes the rule and writes the SAE; the run cannot be stepped afterwards.

        Raises:
            CheckpointFailed: the checkpoint of the last step could not be saved; the SAE was written.
        """
        self.checkpoints.wait_and_free()
        del self.state.engine  # frees Adam's moments, twice the memory of the weights
        with self.state.final_weights():
            sae, gap = frozen_sae(self.state, self.job.store, self.job.reader)
        if sae is not None:
            self.folder.write_frozen_rule({**vars(gap)})
            sae.save(self.folder.sae)  # last: it marks the run as finished
            self._say(gap.sentence())
            if (warning := gap.warning()) is not None:
                self._say(warning)
            self._say(f"wrote {self.folder.sae}")
        self.checkpoints.require_saved()  # if this raises, the run still needs the rows that `end` releases
        self.end()

    def end(self) -> None:
        """Releases the run's rows in a bounded store, once rank 0 has written the SAE. Collective."""
        self.job.ranks.exchange(None)  # a barrier of NCCL would time out while rank 0 writes
        if self.job.accelerator.is_main_process:
            self.units.run_finished()

    def _working_on(self, step: int, activity: str) -> None:
        """Tells the watchdog what the process does next."""
        doing = f"step {step}: {activity}"
        self.job.watchdog.working_on(f"{self.name}: {doing}" if self.name else doing)

    def _say(self, line: str) -> None:
        say(f"{self.name}: {line}" if self.name else line)

    def _lock_folder(self) -> None:
        self.folder.lock()
        if self._point is None and self.folder.holds_checkpoints:
            raise CannotContinue(f"{self.folder.path} was begun by another job meanwhile; start the command again")

    def _log(self, settings: StepSettings) -> dict[str, float | str]:
        """Measures and logs a line; returns its values for the progress bar."""
        line, warnings = logged_line(self.state, settings, self._evaluate())
        if self.job.accelerator.is_main_process and (warning := self.folder.metrics.append(line)):
            self._say(warning)
        numbers = {name: value for name, value in line.items() if isinstance(value, int | float)}
        self.track(numbers, line["step"])
        for warning in warnings:
            self._say(warning)
        return shown_values(line)

    def _evaluate(self) -> FrozenGap | None:
        """Returns a measurement on held-out rows, or None if none is due after the last step."""
        every = self.config.evaluate_every
        if every is None or (self.done % every and self.done < self.steps):
            return None
        self._working_on(self.done, "measuring on held-out rows")
        with self.clock.stopped(), self.state.final_weights():
            return self.job.heldout.measure(self.state)

    def _resume(self) -> None:
        """Restores the state from the checkpoint that was found."""
        point = self._point
        assert point is not None
        mesh = self.job.mesh.device_mesh
        self.state.restore(point.step, point.facts, lambda tensors: load(point.path, tensors, mesh, checked=True))
        changes = f"; changed since then: {', '.join(point.changes)}" if point.changes else ""
        self._say(f"resumed from {point.path}, step {point.step}{changes}")
        if self.job.accelerator.is_main_process:
            for path in abandon_after(self.folder.checkpoints, point.step):
                self._say(f"set aside a checkpoint of a later step as {path}")
        self.checkpoints.resumed(point.step)

    def _save(self) -> None:
        self._working_on(self.done, "saving a checkpoint")
        facts = {"store_fingerprint": self.job.store.fingerprint, **self.state.facts()}
        self.checkpoints.save(self.done, self.state.tensors(), facts)
