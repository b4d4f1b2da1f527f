"""A study at work: method by method it trains, chooses learning rates, evaluates, and writes table and page."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from distsae.durable import replace
from distsae.errors import DistsaeError, Diverged
from distsae.evaluation.config import EvaluateConfig
from distsae.evaluation.evaluate import evaluate
from distsae.exit_codes import DIVERGED, DONE, FAILED, INTERRUPTED, STOPPED
from distsae.progress import say
from distsae.recipes.study.dry_run import members_to_come
from distsae.recipes.study.grid import GridCell, Member
from distsae.recipes.study.jobs import StudyJob, jobs_of
from distsae.recipes.study.launches import launch, write_job
from distsae.recipes.study.methods import Method
from distsae.recipes.study.outcomes import Outcomes
from distsae.recipes.study.peers import PEERS, Peer, train_peer
from distsae.recipes.study.plan import StudyPlan, check_evaluation
from distsae.recipes.study.results import best_of, study_result
from distsae.reporting.study import StudyResult, as_json, as_markdown
from distsae.reporting.wording import duration, fixed
from distsae.standard_streams import show
from distsae.training import TrainConfig

__all__ = ["StudyActions", "StudyAtWork"]

_BAR = 24


def _page(result: StudyResult, folder: Path) -> Path:
    from distsae.reporting.study.page import write_page  # imports matplotlib, which is optional

    return write_page(result, folder)


@dataclass(frozen=True)
class StudyActions:
    """What a study does with its members; a test may put something else in its place.

    Args:
        launch: function that trains what a config file says on a number of processes, launched with a config file of
            accelerate if that is not None, and returns the exit code.
        evaluate: function that evaluates a member.
        check: function that refuses evaluations which would fail.
        page: function that writes the page of a study into a folder, and returns its path.
        peers: peers by name.
    """

    launch: Callable[[Path, int, str | None], int] = launch
    evaluate: Callable[[EvaluateConfig], object] = field(default_factory=lambda: partial(evaluate, shared={}))
    check: Callable[[StudyPlan], None] = check_evaluation
    page: Callable[[StudyResult, Path], Path] = _page
    peers: Mapping[str, Peer] = field(default_factory=lambda: PEERS)


class StudyAtWork:
    """A study at work.

    Args:
        plan: the study.
        outcomes: what has become of its members.
        fits: function that returns whether the members of a sweep fit into memory together.
        actions: what it does with its members.
    """

    def __init__(
        self, plan: StudyPlan, outcomes: Outcomes, fits: Callable[[TrainConfig], bool], actions: StudyActions
    ) -> None:
        self._plan = plan
        self._outcomes = outcomes
        self._fits = fits
        self._actions = actions
        self._out = Path(plan.config.out)
        self._tried: set[str] = set()  # members that failed since the start are not tried a second time
        self._failed = False
        self._total = sum(plan.work(member) for member in members_to_come(plan))
        self._before = self._done()
        self._started = time.monotonic()

    def run(self) -> int:
        """Does all that is left to do, and returns the exit code.

        Raises:
            SystemExit: a training was stopped; the code is `STOPPED`.
            KeyboardInterrupt: a training was stopped by Ctrl-C.
        """
        methods = self._plan.methods
        for number, method in enumerate(methods, start=1):
            cells = self._plan.cells_of(method)
            say(f"study: method {number} of {len(methods)}, {method.name}; {self._progress()}")
            first = [cell.trials if len(cell.rates) > 1 else cell.repeats(cell.rates[0]) for cell in cells]
            self._train(method, [member for members in first for member in members])
            best = {cell.name: rate for cell in cells if (rate := best_of(cell, self._outcomes)) is not None}
            self._say_rates(cells, best)
            chosen = [member for cell in cells if cell.name in best for member in cell.repeats(best[cell.name])]
            self._train(method, chosen)
            self._evaluate(chosen)
            self._write()
        say(f"study: {self._progress()}")
        show((self._out / "table.md").read_text())
        print(f"report: {self._write()}")
        return FAILED if self._failed else DONE

    def _train(self, method: Method, members: Sequence[Member]) -> None:
        if not self._plan.config.keep_checkpoints:
            for member in filter(self._outcomes.finished, members):
                self._outcomes.free(member)
        waiting = [m for m in members if self._outcomes.to_train(m) and m.path not in self._tried]
        if method.peer is not None:
            for member in waiting:
                self._train_by_peer(member)
            return
        config = self._plan.config
        jobs = jobs_of(self._plan.bases[method.name], waiting, self._fits, config.side_by_side)
        for number, job in enumerate(jobs, start=1):
            names = ", ".join(member.name for member in job.members)
            say(f"study: {method.name}: training {number} of {len(jobs)}, {len(job.members)} side by side: {names}")
            self._train_job(job)
            say(f"study: {self._progress()}")

    def _train_job(self, job: StudyJob) -> None:
        for member in job.members:
            self._outcomes.begin(member)
        file = self._out / "jobs" / f"{job.members[0].method.folder}.yaml"
        write_job(job, file)
        mesh = job.config.mesh
        code = self._actions.launch(file, mesh.data * mesh.feature, self._plan.config.launch)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code == STOPPED:
            raise SystemExit(STOPPED)
        for member in job.members:
            if self._outcomes.finished(member):
                self._finished(member)
            elif code == DIVERGED:
                step = self._outcomes.diverged_at(member)
                self._fail(member, code, "a number was not finite" + (f" at step {step}" if step else ""))
            else:
                self._fail(member, code or FAILED, f"its training ended with exit code {code}")

    def _train_by_peer(self, member: Member) -> None:
        say(f"study: {member.method.name}: training {member.name} by {member.method.peer}")
        self._outcomes.begin(member)
        python = self._plan.config.peers_python
        assert python is not None
        base = self._plan.bases[member.method.name]
        try:
            train_peer(member, base, self._plan.folder(member), self._plan.store, python, self._actions.peers)
        except Diverged as error:
            self._fail(member, DIVERGED, str(error))
        except DistsaeError as error:
            self._fail(member, FAILED, str(error))
        else:
            self._finished(member)
        say(f"study: {self._progress()}")

    def _finished(self, member: Member) -> None:
        if not self._plan.config.keep_checkpoints:
            self._outcomes.free(member)
        say(f"study: {member.path}: trained, held-out FVU {fixed(self._outcomes.heldout_fvu(member))}")

    def _fail(self, member: Member, code: int, reason: str) -> None:
        self._tried.add(member.path)
        self._outcomes.fail(member, code, reason)
        self._failed |= code != DIVERGED
        say(f"study: {member.path}: {'diverged' if code == DIVERGED else 'failed'}: {reason}; the others go on")

    def _say_rates(self, cells: Sequence[GridCell], best: Mapping[str, object]) -> None:
        for cell in cells:
            if len(cell.rates) > 1:
                rate = best.get(cell.name)
                say(
                    f"study: {cell.name}: " + ("no rate has a result" if rate is None else f"best learning rate {rate}")
                )

    def _evaluate(self, members: Sequence[Member]) -> None:
        waiting = [m for m in members if self._outcomes.finished(m) and self._outcomes.evaluation(m) is None]
        for number, member in enumerate(waiting, start=1):
            say(f"study: evaluating {number} of {len(waiting)}, {member.path}")
            try:
                self._actions.evaluate(dataclasses.replace(self._plan.evaluation, run=str(self._plan.folder(member))))
            except DistsaeError as error:
                self._failed = True
                say(f"study: {member.path}: not evaluated: {error}; the others go on")

    def _write(self) -> Path:
        """Writes table and page, and returns the path of the page."""
        result = study_result(self._plan, self._outcomes)
        replace(self._out / "table.json", (json.dumps(as_json(result), indent=2) + "\n").encode())
        replace(self._out / "table.md", as_markdown(result).encode())
        return self._actions.page(result, self._out / "report")

    def _done(self) -> int:
        """Returns the work of the members that are trained, or will not be."""
        return sum(
            self._plan.work(member)
            for cell in self._plan.cells
            for member in {m.path: m for m in (*cell.trials, *_later(cell, self._outcomes))}.values()
            if not self._outcomes.to_train(member) or member.path in self._tried
        )

    def _progress(self) -> str:
        done = self._done()
        share = done / max(self._total, 1)
        filled = round(_BAR * share)
        text = f"[{'#' * filled}{'.' * (_BAR - filled)}] {share:.0%} of the training"
        seconds, fresh = time.monotonic() - self._started, done - self._before
        if fresh > 0 and done < self._total:
            text += f", about {duration((self._total - done) / fresh * seconds)} left"
        return text


def _later(cell: GridCell, outcomes: Outcomes) -> tuple[Member, ...]:
    best = best_of(cell, outcomes)
    return () if best is None else cell.repeats(best)
