"""The device that a `device` means, of an option or of a caller."""

from __future__ import annotations

import torch

from distsae.errors import WrongInput

__all__ = ["device_named"]


def device_named(
    name: str | torch.device, local_rank: int | None = None, dtype: torch.dtype = torch.float32
) -> torch.device:
    """Returns the device that `name` means.

    Args:
        name: `auto`, or a device as torch names it (`cpu`, `cuda`, `cuda:1`). `auto` is a GPU if there is one, else
            the CPU.
        local_rank: rank of this process on its machine; `auto` then spreads the processes over the GPUs. None lets
            `auto` mean torch's current GPU.
        dtype: dtype that the device has to support.

    Raises:
        WrongInput: this machine has no such device, or the device does not support `dtype`.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        if local_rank is None:
            return torch.device("cuda")
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    try:
        device = torch.device(name)
        torch.empty(0, dtype=dtype, device=device).cpu()  # a device that holds no values, such as meta, cannot do this
    except (RuntimeError, AssertionError, TypeError) as error:  # TypeError: MPS does not support float64
        raise WrongInput(
            f"`device` (={name}) must be auto or a device of this machine; got {str(error).splitlines()[0]}; "
            "use cpu or auto"
        ) from error
    return device
