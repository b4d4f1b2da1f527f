"""The choice of a run's kernels, by name and device: made when the run starts, never at import."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch

from distsae.errors import WrongInput
from distsae.kernels.cpu import CPU
from distsae.kernels.operations import Kernels
from distsae.kernels.reference import REFERENCE
from distsae.kernels.self_check import BUILD_FAILURES, KernelsDoNotRun, refuse_if_wrong
from distsae.progress import say

__all__ = ["KernelsName", "kernels_for"]

KernelsName = Literal["auto", "reference", "cpu", "triton"]


def kernels_for(name: KernelsName, device: torch.device) -> Kernels:
    """Returns the kernels of a run.

    The Triton version is checked against the reference when a process first asks for it on a device.

    Args:
        name: name of the version; `auto` is the fast one for the device: cpu, or triton on a GPU if it is installed and
            can be built there.
        device: device of the scores.

    Raises:
        WrongInput: the kernels do not run on the device, or their results there differ from the reference's.
    """
    if name == "auto":
        return CPU if device.type == "cpu" else _auto(device)
    if name == "reference":
        return REFERENCE
    if name == "cpu":
        if device.type != "cpu":
            raise WrongInput(f"`kernels` (=cpu) must be used on a CPU; got {device.type}; use auto")
        return CPU
    return _triton(device)


@cache
def _auto(device: torch.device) -> Kernels:
    if device.type != "cuda" or find_spec("triton") is None:
        return REFERENCE
    try:
        return _triton(device)
    except KernelsDoNotRun as error:
        say(f"warning: {error}; the reference is used now: slower, and not in the same order each time")
        return REFERENCE


@cache
def _triton(device: torch.device) -> Kernels:
    if find_spec("triton") is None:
        raise WrongInput("`kernels` (=triton) must be installed; got no package triton; install it, or use auto")
    try:
        import triton
        from triton.errors import TritonError
    except BUILD_FAILURES as error:
        raise KernelsDoNotRun("triton", device, "importing it", error) from error
    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise WrongInput(f"`kernels` (=triton) must be used on a GPU; got {device.type}; use auto")
    from distsae.kernels.triton_gpu import TRITON

    kernels = TRITON if _has_matrix_units(device) else replace(TRITON, places_above=None)
    refuse_if_wrong(kernels, device, (*BUILD_FAILURES, TritonError))
    return kernels


def _has_matrix_units(device: torch.device) -> bool:
    """Returns whether a device multiplies bf16 in units that Triton's products are compiled and tested for."""
    if device.type != "cuda" or torch.version.hip is not None or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)
