"""Where a run goes on: one checkpoint, chosen once for all processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distsae.checkpoint import JSON, Ranks, facts_of, newest, verify
from distsae.errors import TornData, WrongInput
from distsae.progress import Progress, say
from distsae.store import Store
from distsae.training.config import TrainConfig
from distsae.training.folder.run_folder import RunFolder, refuse_other_mathematics

__all__ = ["ResumePoint", "find_resume_point"]


@dataclass(frozen=True)
class ResumePoint:
    """A sound checkpoint of this run.

    Args:
        path: its folder.
        step: steps done.
        facts: what was saved beside the tensors.
        finished: it is the end of the run, and the SAE of that end is there.
        changes: what the config has now and had not then, in words.
    """

    path: Path
    step: int
    facts: dict[str, Any]
    finished: bool
    changes: tuple[str, ...]


def find_resume_point(config: TrainConfig, folder: RunFolder, store: Store, ranks: Ranks) -> ResumePoint | None:
    """Chooses the checkpoint to go on from, the same on all ranks; None starts from the beginning. Collective.

    Every byte of it is read, each rank reading its part.

    Raises:
        WrongInput: on every rank: there is no checkpoint where `resume` says, or for `auto` none beside a finished SAE;
            it has another mathematics or another store, or `steps` is fewer than it has done.
        TornData: on every rank: the checkpoint that `resume` names is damaged, or for `auto` all are.
    """
    if config.resume == "none":
        return None
    with Progress(None, "checking the checkpoint", "bytes") as progress:
        if config.resume == "auto":
            path = _newest(folder, ranks, progress)
        else:
            path = _named(config.resume, folder, ranks, progress)
    if path is None:
        return None
    step, saved = _facts_of(path, ranks)
    facts: dict[str, Any] = dict(saved)
    changes = refuse_other_mathematics(facts["config"], config, str(path))
    if facts["store_fingerprint"] != store.fingerprint:
        raise WrongInput(
            f"`store` (={store.path}) must be the one the run began with, {facts['store_fingerprint']}; got "
            f"{store.fingerprint}"
        )
    if config.steps is not None and config.steps < step:
        raise WrongInput(
            f"`steps` (={config.steps}) must be at least the {step} that {path} has done; give more, or resume from an "
            "earlier checkpoint into another `out`"
        )
    finished = step == config.steps and folder.holds_sae_of(step * config.batch_tokens)
    return ResumePoint(path, step, facts, finished, tuple(changes))


def _newest(folder: RunFolder, ranks: Ranks, progress: Progress) -> Path | None:
    path, refused = newest(folder.checkpoints, ranks, progress.advance)
    for reason in refused:
        say(f"not resumed from {folder.checkpoints}/{reason}")
    if path is None and not refused and ranks.only_first(folder.sae.exists):
        raise WrongInput(
            f"`out` (={folder.path}) must have a checkpoint to go on from; got a finished SAE without one, which "
            "training anew would write over; choose another `out`, or remove `sae` in it"
        )
    if path is None and refused:
        # To begin anew would write over what days of training have left, and a person may be able to mend.
        raise TornData(
            f"none of the {len(refused)} checkpoints in {folder.checkpoints} is whole, see above; mend one, or remove "
            "that folder to begin from step 0"
        )
    return path


def _named(name: str, folder: RunFolder, ranks: Ranks, progress: Progress) -> Path:
    """Returns the checkpoint of that name, or the newest of those that this very command has made since.

    A command that is started again, by a scheduler perhaps, must go on, not back.
    """
    since, _ = newest(folder.checkpoints, ranks, progress.advance)
    if since is not None and _began_with(since, ranks) == name:
        say(f"{since} has come of `resume` (={name}): going on from it")
        return since
    path = Path(name).expanduser()
    if not path.is_dir():
        raise WrongInput(f"`resume` (={path}) must be auto, none or a checkpoint folder that exists; got nothing there")
    if problems := verify(path, ranks, progress.advance):
        raise TornData(f"`resume` (={path}) must be a whole checkpoint; got a damaged one: {'; '.join(problems)}")
    return path


def _began_with(path: Path, ranks: Ranks) -> str | None:
    """Returns the `resume` of the command that made a checkpoint."""
    config = _facts_of(path, ranks)[1]["config"]
    resume = config.get("resume") if isinstance(config, dict) else None
    return resume if isinstance(resume, str) else None


def _facts_of(path: Path, ranks: Ranks) -> tuple[int, dict[str, JSON]]:
    found = ranks.only_first(lambda: facts_of(path))
    assert found is not None
    return found
