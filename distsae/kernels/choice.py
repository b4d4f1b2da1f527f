"""Which kernels a run uses: chosen by name and device when it starts, never at import."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch

from distsae.errors import WrongInput
from distsae.kernels.cpu import CPU
from distsae.kernels.operations import Kernels
from distsae.kernels.reference import REFERENCE
from distsae.kernels.self_check import refuse_if_wrong

__all__ = ["KernelsName", "kernels_for"]

KernelsName = Literal["auto", "reference", "cpu", "triton"]


def kernels_for(name: KernelsName, device: torch.device) -> Kernels:
    """Returns the kernels of a run.

    The Triton version is tried out on the device the first time, on numbers of which the result is known.

    Args:
        name: `auto` is the fast version for the device: cpu, or triton on a GPU if it is installed.
        device: where the scores are.

    Raises:
        WrongInput: they do not run there, or compute something else there.
    """
    if name == "auto":
        if device.type == "cpu":
            return CPU
        return _triton(device) if device.type == "cuda" and find_spec("triton") is not None else REFERENCE
    if name == "reference":
        return REFERENCE
    if name == "cpu":
        if device.type != "cpu":
            raise WrongInput(f"`kernels` (=cpu) must be used on a CPU; got {device.type}; use auto")
        return CPU
    return _triton(device)


@cache
def _triton(device: torch.device) -> Kernels:
    if find_spec("triton") is None:
        raise WrongInput("`kernels` (=triton) must be installed; got no package triton; install it, or use auto")
    import triton
    from triton.errors import TritonError

    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise WrongInput(f"`kernels` (=triton) must be used on a GPU; got {device.type}; use auto")
    from distsae.kernels.triton_gpu import TRITON

    refuse_if_wrong(TRITON, device, (RuntimeError, OSError, ValueError, TritonError))
    return TRITON
