"""The run folder: `config.yaml`, `metrics.jsonl`, `checkpoints/`, `sae/`, `frozen_rule.json`, `wandb_id`."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import yaml

from distsae.durable import replace
from distsae.errors import WrongInput
from distsae.training.config import TrainConfig, flat_keys
from distsae.training.folder.lock import FolderLock
from distsae.training.folder.metrics_file import MetricsFile

__all__ = ["RunFolder", "refuse_other_mathematics"]

_MAY_CHANGE = (
    "store",
    "out",
    "steps",
    "resume",
    "hang_seconds",
    "wandb",
    "log_every",
    "evaluate_every",
    "alarms",
    "checkpoint",
    "mesh",
    "engine",
    "deepspeed",
    "selection_mb",
    "kernels",
    "prefilter",
)
"""Keys that a resumed run may give another value; the store is compared by its fingerprint instead."""

_UNSAID = ("store", "out", "resume")


class RunFolder:
    """The files of one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.checkpoints = self.path / "checkpoints"
        self.sae = self.path / "sae"
        self.name = str(self.path.resolve())
        self._config = self.path / "config.yaml"
        self.metrics = MetricsFile(self.path / "metrics.jsonl")
        self._lock = FolderLock(self.path / ".lock")
        self._tracking_id = self.path / "wandb_id"
        self._frozen_rule = self.path / "frozen_rule.json"

    @property
    def begun(self) -> bool:
        """Whether the folder holds a run."""
        return self._config.is_file()

    def check(self, config: TrainConfig) -> None:
        """Refuses to go on in a folder whose run has another mathematics, or at all when `resume` is none.

        Raises:
            WrongInput: the folder holds another run, both values are shown; or it cannot be a folder.
        """
        if self.path.exists() and not self.path.is_dir():
            raise WrongInput(f"`out` (={self.path}) must be a folder; got a file; choose another `out`")
        if not self.begun:
            return
        if config.resume == "none":
            raise WrongInput(
                f"`out` (={self.path}) must be a new folder when `resume` is none; it holds a run; choose another "
                "`out`, or go on with `resume` auto"
            )
        refuse_other_mathematics(yaml.safe_load(self._config.read_text()), config, str(self.path))

    def holds_sae_of(self, tokens: int) -> bool:
        """Says whether the SAE that training on `tokens` tokens ended with has been written, all of it."""
        try:  # the file that `SAE.save` writes last; a run that went on since has an older one
            seen = json.loads((self.sae / "config.json").read_text())["tokens_seen"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False
        return bool(seen == tokens) and (self.sae / "sae.safetensors").is_file()

    @property
    def saved(self) -> bool:
        """Whether there are checkpoints, sound or not."""
        return any(self.checkpoints.glob("step-*"))

    def occupy(self) -> None:
        """Makes the folder and keeps other jobs out of it until `close`; doing it again changes nothing.

        Raises:
            CannotContinue: another job trains into it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.take()

    def close(self) -> None:
        """Lets other jobs in."""
        self._lock.release()

    def tracking_id(self) -> str:
        """Returns what wandb knows the run by, from its first process to its last."""
        if not self._tracking_id.is_file():
            self._tracking_id.write_text(uuid.uuid4().hex[:12] + "\n")
        return self._tracking_id.read_text().strip()

    def write_config(self, config: TrainConfig) -> None:
        """Writes every key but `sweep`, defaults included; a kill leaves the old file or the new one."""
        self.path.mkdir(parents=True, exist_ok=True)
        replace(self._config, yaml.safe_dump(config.stored(), sort_keys=False).encode())

    def write_frozen_rule(self, values: dict[str, Any]) -> None:
        """Writes what freezing the rule changed; a kill leaves the old file or the new one."""
        replace(self._frozen_rule, f"{json.dumps(values, indent=2)}\n".encode())


def refuse_other_mathematics(before: dict[str, Any], config: TrainConfig, where: str) -> list[str]:
    """Refuses a config that would compute something else than the run that it is to continue.

    Args:
        before: the nested config that the run began with.
        config: the config now.
        where: where `before` was found, for the error.

    Returns:
        What differs and may, such as "`steps` 400 (was 200)"; paths and what only says how to begin are left out.

    Raises:
        WrongInput: a key differs that may not; both values are shown.
    """
    new = flat_keys(config.stored())
    # Keys that are younger than the run had no other value than their default then.
    old = {key: value for key, value in flat_keys(TrainConfig(store="", out="").stored()).items() if key in new}
    old |= flat_keys(before)
    for values, other in ((old, new), (new, old)):
        if values["order_seed"] is None and other["order_seed"] is not None:
            values["order_seed"] = values["seed"]  # as a member of a sweep keeps it
    changed: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key):
            continue
        if key.split(".")[0] not in _MAY_CHANGE:
            raise WrongInput(
                f"`{key}` (={new.get(key)}) must stay what the run in {where} began with; got {old.get(key)} there; "
                "choose another `out`, or give the old value"
            )
        if key not in _UNSAID:
            changed.append(f"`{key}` {new.get(key)} (was {old.get(key)})")
    return changed
