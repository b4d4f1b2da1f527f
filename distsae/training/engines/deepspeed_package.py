"""The package deepspeed, for the device that is trained on: whatever it lacks on this machine is one line.

DeepSpeed looks for compilers and CUDA's toolkit when it is imported and started. What it raises where they are missing
derives from `Exception` alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import SubprocessError
from typing import Any

import torch

from distsae.errors import WrongInput

__all__ = ["working_deepspeed"]

_FAILURES = (ImportError, OSError, SubprocessError, AssertionError)


@contextmanager
def working_deepspeed(device: torch.device) -> Iterator[Any]:
    """Imports deepspeed, and turns its failures inside the block into one line; other errors pass unchanged.

    Args:
        device: device of the parameters, which need not be a GPU where there is one.

    Yields:
        The module.

    Raises:
        WrongInput: deepspeed is not installed, or does not work on this machine.
    """
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        deepspeed = _imported()
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        # On CPU it would first compile an all-reduce over shared memory, which takes minutes and looks like a hang.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        yield deepspeed
    except BaseException as error:
        if not isinstance(error, _FAILURES) and not type(error).__module__.startswith("deepspeed"):
            raise
        if isinstance(error, ModuleNotFoundError) and error.name == "deepspeed":
            raise WrongInput(
                "`engine` (=deepspeed) must have the package deepspeed; got none; run "
                "`pip install 'distsae[deepspeed]'`, or use `engine` plain"
            ) from error
        reason = " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])
        raise WrongInput(
            f"`engine` (=deepspeed) must have a package deepspeed that works on this machine; got {reason[:200]}; "
            "install what is missing, or use `engine` plain"
        ) from error


def _imported() -> Any:  # noqa: ANN401  (DeepSpeed is untyped)
    try:
        import deepspeed
        import deepspeed.ops
    except (RuntimeError, ValueError, AttributeError) as error:  # of an import; later such errors have other causes
        raise ImportError(f"{type(error).__name__}: {error}") from error
    return deepspeed
