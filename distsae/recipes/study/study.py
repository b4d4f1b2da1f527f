"""`distsae study`: checks a study, and carries it out in its folder."""

from __future__ import annotations

import signal
from pathlib import Path

from distsae.exit_codes import DONE, STOPPED
from distsae.progress import say
from distsae.recipes.from_keys import FromKeys
from distsae.recipes.study.at_work import StudyActions, StudyAtWork
from distsae.recipes.study.config import StudyConfig
from distsae.recipes.study.dry_run import listing
from distsae.recipes.study.fitting import Fitting
from distsae.recipes.study.grid import Member
from distsae.recipes.study.outcomes import Outcomes
from distsae.recipes.study.plan import StudyPlan, planned
from distsae.recipes.study.record import StudyRecord
from distsae.reporting.report import require_libraries
from distsae.signals import listening, stop_signals
from distsae.standard_streams import show
from distsae.training.folder.lock import FolderLock

__all__ = ["run_study"]


def run_study(config: StudyConfig, from_keys: FromKeys, actions: StudyActions | None = None) -> int:
    """Carries out a study, or goes on with it, and returns the exit code.

    A member that diverges, or whose training fails, is marked in the table, and the others go on. The table and the
    page are written after every method.

    Args:
        config: keys of the study.
        from_keys: function that builds the configs of trainings and evaluations from keys.
        actions: what it does with its members; None for what it is there for.

    Returns:
        `DONE`, also if members have diverged; `FAILED` if a member failed otherwise: the same command tries it again.

    Raises:
        WrongInput: the study cannot be carried out as given; nothing was trained.
        CannotContinue: another study is at work in the folder.
        SystemExit: SIGTERM, SIGUSR1 or SIGHUP stopped the study; the code is `STOPPED`.
        KeyboardInterrupt: Ctrl-C stopped the study.
    """
    require_libraries("distsae study")
    actions = StudyActions() if actions is None else actions
    plan = planned(config, from_keys, actions.peers)
    record, outcomes = StudyRecord(plan), Outcomes(plan)
    fits = Fitting(plan.store, config.memory_gb)
    if config.dry_run:
        show(listing(plan, outcomes, fits))
        return DONE
    actions.check(plan)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(out / ".lock")
    lock.acquire()
    try:
        if record.evaluates_anew:
            say("study: the keys of `evaluate` have changed, so all members are evaluated again")
            for member in _members_of(plan):
                outcomes.forget_evaluation(member)
        record.write()
        with listening([number for number in stop_signals() if number is not signal.SIGINT], _stop):
            return StudyAtWork(plan, outcomes, fits, actions).run()
    except (KeyboardInterrupt, SystemExit):
        say("study: stopped; the same command goes on")
        raise
    finally:
        lock.release()


def _members_of(plan: StudyPlan) -> list[Member]:
    """Returns every member that a study may have, at any of its rates."""
    return [member for cell in plan.cells for rate in cell.rates for member in cell.repeats(rate)]


def _stop(number: signal.Signals) -> None:
    raise SystemExit(STOPPED)
