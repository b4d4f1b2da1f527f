"""The run folder: `config.yaml`, `metrics.jsonl`, `checkpoints/`, `sae/`, `frozen_rule.json`, `wandb_id`."""

from __future__ import annotations

import json
import shlex
import uuid
from pathlib import Path
from typing import Any

import yaml

from distsae.checked_files import read_json_object, read_regular, read_yaml_mapping
from distsae.durable import replace
from distsae.errors import TornData, WrongInput
from distsae.file_system import require_operations
from distsae.model.sae_files import CONFIG, IN_RUN, is_complete
from distsae.nested_keys import flat_keys
from distsae.store.mounted_path import mounted_path
from distsae.training.config import TrainConfig
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
    "optimizer.divide_moments",
)
"""Keys, or first parts of keys, that may have another value when a run is resumed; the store is compared by its
fingerprint instead."""

_BEFORE_IT_EXISTED = {
    "max_norm_ratio": "none",
    "normalise": "scale",
    "optimizer.decoder_rate": 1.0,
    "quotas_hold": "every_batch",
}
"""What runs did before a key was added to distsae, where that is not the key's default."""

_NOT_REPORTED = ("store", "out", "resume")
"""Keys whose changes are not reported to the user: paths, and where to start."""


class RunFolder:
    """The files of one run.

    Args:
        path: path of the folder.
        patience: seconds that `lock` waits for another job.

    Attributes:
        path: path of the folder.
        checkpoints: folder of the checkpoints.
        sae: folder of the SAE that training ends with.
        name: name of the run: the absolute path of the folder.
        metrics: the file of logged lines.
    """

    def __init__(self, path: str | Path, patience: float = 30.0) -> None:
        self.path = mounted_path(path, "out")
        self.checkpoints = self.path / "checkpoints"
        self.sae = self.path / IN_RUN
        self.name = str(self.path.resolve())
        self.metrics = MetricsFile(self.path / "metrics.jsonl")
        self._config = self.path / "config.yaml"
        self._lock = FolderLock(self.path / ".lock", patience)
        self._tracking_id = self.path / "wandb_id"
        self._frozen_rule = self.path / "frozen_rule.json"

    @property
    def holds_run(self) -> bool:
        """Whether a run has been started in the folder."""
        return self._config.is_file()

    @property
    def holds_checkpoints(self) -> bool:
        """Whether the folder has checkpoints, intact or damaged."""
        return any(self.checkpoints.glob("step-*"))

    def holds_sae_of(self, tokens: int) -> bool:
        """Returns whether the folder has the complete SAE that training on `tokens` tokens ended with."""
        try:  # a run that was resumed with more steps has the SAE of fewer tokens until it ends
            tokens_seen = read_json_object(self.sae / CONFIG).get("tokens_seen")
        except (FileNotFoundError, TornData):
            return False
        return bool(tokens_seen == tokens) and is_complete(self.sae)

    def check(self, config: TrainConfig) -> None:
        """Refuses a config that cannot be trained into this folder.

        Raises:
            WrongInput: the path is a file; or the folder holds a run although `resume` is none; or it holds a run of
                other mathematics, then the text has both values.
        """
        if self.path.exists() and not self.path.is_dir():
            raise WrongInput(f"`out` (={self.path}) must be a folder; got a file; choose another `out`")
        if not self.holds_run:
            return
        if config.resume == "none":
            raise WrongInput(
                f"`out` (={self.path}) must be a new folder when `resume` is none; got one that holds a run; choose "
                "another `out`, or set `resume` to auto"
            )
        before = read_yaml_mapping(self._config, str(self._config))
        refuse_other_mathematics(before, config, str(self.path))

    def lock(self) -> None:
        """Creates the folder and locks it against other jobs until `close`; does nothing if this object has locked it.

        Raises:
            CannotContinue: another job trains into the folder.
            WrongInput: the file system lacks an operation that a run needs; the text names it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        if not self.holds_run:
            require_operations(self.path, "out", publishing=False)

    def close(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def tracking_id(self) -> str:
        """Returns the id of the run in wandb, which stays the same when the run is resumed."""
        if not self._tracking_id.is_file():
            self._tracking_id.write_text(uuid.uuid4().hex[:12] + "\n")
        return read_regular(self._tracking_id, 1024).decode(errors="replace").strip()

    def write_config(self, config: TrainConfig) -> None:
        """Writes every key but `sweep`, defaults included; a kill leaves either the old file or the new one."""
        self.path.mkdir(parents=True, exist_ok=True)
        replace(self._config, yaml.safe_dump(config.stored(), sort_keys=False).encode())

    def write_frozen_rule(self, values: dict[str, Any]) -> None:
        """Writes the gap between training rule and frozen rule; a kill leaves either the old file or the new one."""
        replace(self._frozen_rule, f"{json.dumps(values, indent=2)}\n".encode())


def refuse_other_mathematics(before: dict[str, Any], config: TrainConfig, source: str) -> list[str]:
    """Refuses to continue a run with a config that would compute something else.

    Args:
        before: nested config that the run began with.
        config: config to continue with.
        source: path that `before` was read from, for the error.

    Returns:
        The changes that are allowed, such as "`steps` 400 (was 200)"; those of paths and of `resume` are left out.

    Raises:
        WrongInput: a key has changed that must not; the text has both values.
    """
    new = flat_keys(config.stored())
    # A key that was added to distsae after the run began had its default then, or what runs did instead.
    defaults = flat_keys(TrainConfig(store="", out="").stored()) | _BEFORE_IT_EXISTED
    old = {key: value for key, value in defaults.items() if key in new}
    old |= flat_keys(before)
    for values, others in ((old, new), (new, old)):
        if values["order_seed"] is None and others["order_seed"] is not None:
            values["order_seed"] = values["seed"]  # the config of a sweep's member has the seed written out
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    refused = [key for key in changed if key not in _MAY_CHANGE and key.split(".")[0] not in _MAY_CHANGE]
    if refused:
        given = ", ".join(f"`{key}` (={new.get(key)})" for key in refused)
        options = " ".join(f"--{key} {_as_given(old.get(key))}" for key in refused)
        raise WrongInput(
            f"{given} must stay what the run in {source} began with; got "
            f"{', '.join(str(old.get(key)) for key in refused)} there; choose another `out`, or give {options}"
        )
    return [f"`{key}` {new.get(key)} (was {old.get(key)})" for key in changed if key not in _NOT_REPORTED]


def _as_given(value: object) -> str:
    """Returns a value as a command line has it."""
    return shlex.quote(json.dumps(value) if isinstance(value, bool | list | None) else str(value))
