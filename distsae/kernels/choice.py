"""Which kernels a run uses: chosen by name and device when it starts, never at import."""

from __future__ import annotations

from typing import Literal

import torch

from distsae.errors import WrongInput
from distsae.kernels.cpu import CPU
from distsae.kernels.operations import Kernels
from distsae.kernels.reference import REFERENCE

__all__ = ["KernelsName", "kernels_for"]

KernelsName = Literal["auto", "reference", "cpu", "triton"]


def kernels_for(name: KernelsName, device: torch.device) -> Kernels:
    """Returns the kernels of a run.

    Args:
        name: `auto` is the fast version for the device: cpu, or triton on a GPU if it is installed.
        device: where the scores are.

    Raises:
        WrongInput: they do not run there.
    """
    if name == "auto":
        return CPU if device.type == "cpu" else _triton(device)
    if name == "reference":
        return REFERENCE
    if name == "cpu":
        if device.type != "cpu":
            raise WrongInput(f"`kernels` (=cpu) must be used on a CPU; got {device.type}; use auto")
        return CPU
    return _triton(device)


def _triton(device: torch.device) -> Kernels:
    raise WrongInput(f"`kernels` (=triton) must be used on a GPU; got {device.type}; use auto")
