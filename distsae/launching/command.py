"""Checks the arguments of `accelerate launch` for a launch that may be started again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distsae.checked_files import read_yaml_mapping
from distsae.errors import WrongInput

__all__ = ["checked_arguments"]


def checked_arguments(arguments: Sequence[str], restarts: int) -> list[str]:
    """Returns the arguments for every start, after checking that the launch can be started again.

    A launch on one machine for which no port is given gets a free port at every start.

    Args:
        arguments: arguments of `accelerate launch`.
        restarts: number of times that the launch may be started again.

    Raises:
        WrongInput: there is nothing to launch; `restarts` is not 0 for several machines; or the training would not
            resume from its newest checkpoint.
    """
    if not arguments:
        raise WrongInput(
            "the command must follow `--`; got none; use `distsae supervise -- --config_file "
            "cluster_configs/gpu_8.yaml -m distsae train ...`, with the arguments of accelerate launch"
        )
    launch, training = _split(arguments)
    machines = _machines(launch)
    if machines > 1 and restarts:
        raise WrongInput(
            f"`restarts` (={restarts}) must be 0 with num_machines {machines}, because each machine would count "
            "its restarts by itself; start all machines again together, as launch/slurm_train.sh does"
        )
    _check_resume(training)
    if machines > 1 or _value(launch, "main_process_port") is not None:
        return list(arguments)
    return ["--main_process_port", "0", *arguments]  # 0 is any free port


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the options of `accelerate launch`, and the script or module with its own arguments."""
    for position, word in enumerate(arguments):
        if word in ("-m", "--module") or word.endswith(".py"):
            return arguments[:position], arguments[position:]
    return arguments, []


def _value(words: Sequence[str], name: str) -> str | None:
    """Returns the last value that is given as `--name value` or `--name=value`; hyphens count as underscores."""
    found = None
    for position, word in enumerate(words):
        key, equals, value = word.partition("=")
        if key.startswith("--") and key[2:].replace("-", "_") == name:
            found = value if equals else next(iter(words[position + 1 : position + 2]), None)
    return found


def _machines(launch: Sequence[str]) -> int:
    given: Any = _value(launch, "num_machines")
    if given is None:
        named = _value(launch, "config_file")
        path = Path(named) if named is not None else _default_config()
        if named is not None and not path.is_file():
            raise WrongInput(
                f"`config_file` (={path}) must be a config file of accelerate; got no such file; check the path"
            )
        given = _read(path).get("num_machines", 1) if path.is_file() else 1
    try:
        return int(given)
    except (TypeError, ValueError):
        raise WrongInput(f"`num_machines` (={given}) must be a whole number; use 1, for example") from None


def _default_config() -> Path:
    """Returns the file that `accelerate config` writes, which counts if no other is given."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", f"{cache}/huggingface")).expanduser() / "accelerate" / "default_config.yaml"


def _read(path: Path) -> dict[str, Any]:
    return read_yaml_mapping(path, str(path), WrongInput)


def _check_resume(training: Sequence[str]) -> None:
    """Raises WrongInput for a `distsae train` that would not resume the run in its folder."""
    if "train" not in training:
        return
    resume = _value(training, "resume")
    if resume is None and (config := _value(training, "config")) is not None and Path(config).is_file():
        resume = _read(Path(config)).get("resume")
    if resume == "none":
        raise WrongInput(
            "`resume` (=none) must be auto under supervise, because a restart resumes the run in its folder, and none "
            "refuses a folder that holds a run; leave it out (auto starts a new run if there is no checkpoint)"
        )
