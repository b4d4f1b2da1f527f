"""The variables by which launchers and schedulers tell a process what it is: whole numbers, checked before any work.

A variable that is set and empty counts as wrong, as it does for torch and accelerate, which end with a traceback.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping

from distsae.errors import WrongInput

__all__ = ["check_environment", "check_interface", "cpu_is_asked_for", "launched_processes", "whole_number"]

_LEAST = {
    "WORLD_SIZE": 1,
    "RANK": 0,
    "LOCAL_RANK": 0,
    "LOCAL_WORLD_SIZE": 1,
    "MASTER_PORT": 1,
    "SLURM_NTASKS": 1,
    "SLURM_PROCID": 0,
    "SLURM_LOCALID": 0,
    "SLURM_ARRAY_TASK_COUNT": 1,
    "SLURM_ARRAY_TASK_ID": 0,
    "SLURM_ARRAY_TASK_MIN": 0,
}
"""Variables that must be whole numbers, with the least of each."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_LAST_PORT = 65_535


def whole_number(name: str, default: int, environment: Mapping[str, str] = os.environ) -> int:
    """Returns the number in a variable, or the default if it is not set.

    Args:
        name: name of the variable.
        default: number that counts if the variable is not set.
        environment: variables by name.

    Raises:
        WrongInput: it is not a whole number, or too small or too large to be what its name says.
    """
    value = environment.get(name)
    if value is None:
        return default
    least, most = _LEAST.get(name, 0), _LAST_PORT if name == "MASTER_PORT" else 1 << 31
    if re.fullmatch(r"\s*[0-9]{1,10}\s*", value) is None or not least <= int(value) <= most:
        limits = f"from {least} to {most}" if name == "MASTER_PORT" else f"of at least {least}"
        raise _wrong(name, value, f"a whole number {limits}")
    return int(value)


def launched_processes() -> int:
    """Returns the number of processes that were launched together, this one included."""
    return whole_number("WORLD_SIZE", 1)


def check_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Checks all of these variables that are set.

    Raises:
        WrongInput: one is not what its name says; the text names it.
    """
    for name in _LEAST:
        whole_number(name, 0, environment)
    size = whole_number("WORLD_SIZE", 0, environment)
    if size and whole_number("RANK", 0, environment) >= size:
        raise _wrong("RANK", environment["RANK"], f"below `WORLD_SIZE` (={size})")
    for name in _THREADS:
        value = environment.get(name, "1")
        if re.fullmatch(r"\s*[1-9][0-9]*(\s*,\s*[1-9][0-9]*)*\s*", value) is None:
            raise _wrong(name, value, "a number of threads, at least 1")


def check_interface(environment: Mapping[str, str] = os.environ) -> None:
    """Checks that the network interface by which gloo's processes are told to meet exists on this machine.

    Raises:
        WrongInput: there is no interface of that name.
    """
    names = environment.get("GLOO_SOCKET_IFNAME")
    known = [name for _, name in socket.if_nameindex()]
    if not names or all(name.strip() in known for name in names.split(",")):
        return
    syntax = " (`^` and `=` are NCCL's syntax, which gloo does not know)" if re.search(r"[\^=]", names) else ""
    raise WrongInput(
        f"the environment variable `GLOO_SOCKET_IFNAME` (={names}) must name a network interface of this machine; got "
        f"one that is none of {', '.join(known)}{syntax}; use one of these, or unset it"
    )


def _wrong(name: str, value: str, what: str) -> WrongInput:
    return WrongInput(
        f"the environment variable `{name}` (={value}) must be {what}; launchers and schedulers set it; unset it, or "
        "start again with `accelerate launch`"
    )


def cpu_is_asked_for(environment: Mapping[str, str] = os.environ) -> bool:
    """Returns whether accelerate is told to use the CPU though there are GPUs.

    Args:
        environment: variables by name.
    """
    asked = environment.get("ACCELERATE_USE_CPU", "").strip().lower() in ("1", "true", "t", "yes", "y", "on")
    return asked or not environment.get("ACCELERATE_TORCH_DEVICE", "cuda").startswith("cuda")
