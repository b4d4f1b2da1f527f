"""What the arguments of `accelerate launch` say about starting it again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from distsae.errors import WrongInput

__all__ = ["checked_arguments"]


def checked_arguments(arguments: Sequence[str], restarts: int) -> list[str]:
    """Refuses what cannot be started again, and asks for a free port where the launch may choose its own.

    Args:
        arguments: of `accelerate launch`.
        restarts: how often the launch may be started again.

    Returns:
        The arguments to launch with, each time.

    Raises:
        WrongInput: nothing is launched; `restarts` is given for several machines; or the training would not go on
            from its newest checkpoint.
    """
    if not arguments:
        raise WrongInput(
            "the command must follow `--`; got none; write `distsae supervise -- --config_file "
            "cluster_configs/gpu_8.yaml -m distsae train ...`, as you would for accelerate launch"
        )
    launch, training = _in_two(arguments)
    machines = _machines(launch)
    if machines > 1 and restarts:
        raise WrongInput(
            f"`restarts` (={restarts}) must be 0 with num_machines {machines}: the machines would count their tries "
            "each for itself; start the launch again on all of them together, as launch/slurm_train.sh does"
        )
    _refuse_to_begin_anew(training)
    if machines > 1 or _value(launch, "main_process_port") is not None:
        return list(arguments)
    return ["--main_process_port", "0", *arguments]  # any free one


def _in_two(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Splits what is for accelerate from the script or module and what is for that."""
    for position, word in enumerate(arguments):
        if word in ("-m", "--module") or word.endswith(".py"):
            return arguments[:position], arguments[position:]
    return arguments, []


def _value(words: Sequence[str], name: str) -> str | None:
    """Returns the last value of `--name value` or `--name=value`, hyphens taken for underscores."""
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
        path = Path(named) if named is not None else _own_config()
        if named is not None and not path.is_file():
            raise WrongInput(f"`config_file` (={path}) must be a config file of accelerate; got nothing there")
        given = _read(path).get("num_machines", 1) if path.is_file() else 1
    try:
        return int(given)
    except (TypeError, ValueError):
        raise WrongInput(f"`num_machines` (={given}) must be a whole number") from None


def _own_config() -> Path:
    """Returns where `accelerate config` writes what holds when nothing else is said."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", f"{cache}/huggingface")).expanduser() / "accelerate" / "default_config.yaml"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise WrongInput(f"{path} must be valid YAML; got: {error}") from error
    return content if isinstance(content, dict) else {}


def _refuse_to_begin_anew(training: Sequence[str]) -> None:
    """Refuses a `distsae train` that will not go on in a folder that holds a run."""
    if "train" not in training:
        return
    resume = _value(training, "resume")
    if resume is None and (config := _value(training, "config")) is not None and Path(config).is_file():
        resume = _read(Path(config)).get("resume")
    if resume == "none":
        raise WrongInput(
            "`resume` (=none) must be auto under supervise: started again, the run goes on in its folder, and none "
            "refuses a folder that holds a run; leave it out (auto begins anew where there is no checkpoint)"
        )
