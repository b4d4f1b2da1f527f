"""Where a run goes on: one checkpoint, chosen once for all processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from distsae.checkpoint import facts_of, newest
from distsae.errors import DistsaeError, TornData, WrongInput
from distsae.progress import say
from distsae.store import Store
from distsae.training.config import TrainConfig
from distsae.training.run_folder import RunFolder, refuse_other_mathematics

__all__ = ["ResumePoint", "find_resume_point"]


@dataclass(frozen=True)
class ResumePoint:
    """A sound checkpoint of this run.

    Args:
        path: its folder.
        step: steps done.
        facts: what was saved beside the tensors.
        finished: it is the end of the run, and the SAE of that end is there.
    """

    path: Path
    step: int
    facts: dict[str, Any]
    finished: bool


def find_resume_point(config: TrainConfig, folder: RunFolder, store: Store) -> ResumePoint | None:
    """Chooses the checkpoint to go on from; None starts from the beginning.

    Rank 0 chooses and tells the others: on a shared file system two ranks may not see the same newest checkpoint, and
    a mixture of two steps would load without a word. Collective.

    Raises:
        WrongInput: on every rank: there is no checkpoint where `resume` says, it has another mathematics or another
            store, or `steps` is fewer than it has done.
        TornData: on every rank: the checkpoint that `resume` names is damaged.
    """
    if not dist.is_initialized():
        return _choose(config, folder, store)
    message: list[tuple[str, Any]] = [("", None)]
    if dist.get_rank() == 0:
        try:
            message = [("found", _choose(config, folder, store))]
        except DistsaeError as error:
            message = [(type(error).__name__, str(error))]
    dist.broadcast_object_list(message, src=0)
    kind, content = message[0]
    if kind != "found":
        raise {"WrongInput": WrongInput, "TornData": TornData}.get(kind, DistsaeError)(content)
    assert content is None or isinstance(content, ResumePoint)
    return content


def _choose(config: TrainConfig, folder: RunFolder, store: Store) -> ResumePoint | None:
    if config.resume == "none":
        return None
    if config.resume == "auto":
        path, refused = newest(folder.checkpoints)
        for reason in refused:
            say(f"not resumed from {folder.checkpoints}/{reason}")
        if path is None:
            return None
    else:
        path = Path(config.resume).expanduser()
        if not path.is_dir():
            raise WrongInput(
                f"`resume` (={path}) must be auto, none or a checkpoint folder that exists; got nothing there"
            )
    step, saved = facts_of(path)
    facts: dict[str, Any] = dict(saved)
    refuse_other_mathematics(facts["config"], config, str(path))
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
    return ResumePoint(path, step, facts, finished)
