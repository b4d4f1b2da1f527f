"""Where a run resumes: one checkpoint, chosen once for all processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distsae.checkpoint import JSON, Ranks, facts_of, newest, verify
from distsae.errors import TornData, WrongInput
from distsae.progress import Progress, say
from distsae.store import Store
from distsae.store.mounted_path import mounted_path
from distsae.training.config import TrainConfig
from distsae.training.folder.run_folder import RunFolder, refuse_other_mathematics
from distsae.training.folder.saved_facts import check_saved_facts

__all__ = ["ResumePoint", "find_resume_point"]


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint that is intact and fits the run.

    Args:
        path: folder of the checkpoint.
        step: optimizer steps done.
        facts: plain values that were saved beside the tensors.
        finished: whether it is the last checkpoint of a run whose SAE has been written.
        changes: keys whose values have changed since, in words.
    """

    path: Path
    step: int
    facts: dict[str, Any]
    finished: bool
    changes: tuple[str, ...]


def find_resume_point(config: TrainConfig, folder: RunFolder, store: Store, ranks: Ranks) -> ResumePoint | None:
    """Returns the checkpoint to resume from, the same on all ranks; None for a run that starts at step 0. Collective.

    A folder that holds a run is locked first, because another job in it might delete the checkpoint. Then every byte
    of the checkpoint is verified; the ranks share that work.

    Args:
        config: configuration of the run, with `hook` and `steps`.
        folder: folder of the run.
        store: store of the run.
        ranks: all ranks of the job.

    Raises:
        WrongInput: on every rank: `resume` names no checkpoint; or it is auto, and there is a finished SAE without a
            checkpoint; or the checkpoint is of other mathematics, of another store, or of more than `steps` steps.
        TornData: on every rank: the checkpoint that `resume` names is damaged, or with auto all of them are.
        CannotContinue: on every rank: another job trains into the folder.
    """
    ranks.only_first(lambda: folder.lock() if folder.holds_run else None)
    if config.resume == "none":
        return None
    with Progress(None, "checking the checkpoint", "bytes") as progress:
        if config.resume == "auto":
            path = _newest(folder, ranks, progress)
        else:
            path = _given(config.resume, folder, ranks, progress)
    if path is None:
        return None
    step, saved = _step_and_facts(path, ranks)
    check_saved_facts(saved, path)
    facts: dict[str, Any] = dict(saved)
    changes = refuse_other_mathematics(facts["config"], config, str(path))
    if facts["store_fingerprint"] != store.fingerprint:
        raise WrongInput(
            f"`store` (={store.path}) must be the one that the run began with, {facts['store_fingerprint']}; got "
            f"{store.fingerprint}; give the old store, or choose another `out`"
        )
    if config.steps is not None and config.steps < step:
        raise WrongInput(
            f"`steps` (={config.steps}) must be at least the {step} that {path} has done; give more steps, or resume "
            "from an earlier checkpoint into another `out`"
        )
    finished = step == config.steps and folder.holds_sae_of(step * config.batch_tokens)
    return ResumePoint(path, step, facts, finished, tuple(changes))


def _newest(folder: RunFolder, ranks: Ranks, progress: Progress) -> Path | None:
    """Returns the newest intact checkpoint of the folder; None if the folder has none at all."""
    path, refused = newest(folder.checkpoints, ranks, progress.advance)
    for reason in refused:
        say(f"not resumed from {folder.checkpoints}/{reason}")
    if path is not None:
        return path
    if refused:
        # A new run would overwrite what days of training have left, and what the user may be able to repair.
        raise TornData(
            f"none of the {len(refused)} checkpoints in {folder.checkpoints} is whole (see above); repair one, or "
            "remove that folder to start from step 0"
        )
    if ranks.only_first(folder.sae.exists):
        raise WrongInput(
            f"`out` (={folder.path}) must have a checkpoint to resume from; got a finished SAE without one, which a "
            "new training would overwrite; choose another `out`, or remove `sae` in it"
        )
    return None


def _given(name: str, folder: RunFolder, ranks: Ranks, progress: Progress) -> Path:
    """Returns the checkpoint that `resume` names, or the newest one that this same command has saved since.

    A scheduler starts the same command again and again; each time it must continue, not go back.
    """
    since, _ = newest(folder.checkpoints, ranks, progress.advance)
    if since is not None and _resume_of(since, ranks) == name:
        say(f"{since} was saved by a run from `resume` (={name}): resuming from it")
        return since
    path = mounted_path(name, "resume")
    if not path.is_dir():
        raise WrongInput(
            f"`resume` (={path}) must be auto, none or a checkpoint folder; got no such folder; check the path"
        )
    if problems := verify(path, ranks, progress.advance):
        raise TornData(f"`resume` (={path}) must be an intact checkpoint; got a damaged one: {'; '.join(problems)}")
    return path


def _resume_of(path: Path, ranks: Ranks) -> str | None:
    """Returns the `resume` of the command that saved a checkpoint."""
    config = _step_and_facts(path, ranks)[1]["config"]
    resume = config.get("resume") if isinstance(config, dict) else None
    return resume if isinstance(resume, str) else None


def _step_and_facts(path: Path, ranks: Ranks) -> tuple[int, dict[str, JSON]]:
    found = ranks.only_first(lambda: facts_of(path))
    assert found is not None
    return found
