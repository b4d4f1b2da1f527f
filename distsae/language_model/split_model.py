"""A model that is too large for one device: transformers splits it, and each part runs where it is.

What is at a hook is on the device of its block, or on that of the block before. Whoever reads it brings it to where it
is needed.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import nn

from distsae.environment import whole_number
from distsae.errors import WrongInput
from distsae.progress import say

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["DeviceMap", "input_device", "refuse_map", "refuse_offloaded", "refuse_shared_gpus", "say_split"]

DeviceMap = str | dict[str, str | int]
"""Name of a way of splitting, or the device of each part of the model by its path: a GPU's number, `cpu` or `disk`."""

_NAMED = ("auto", "balanced", "balanced_low_0", "sequential")
"""Ways of splitting that transformers knows by name."""


def refuse_map(device_map: DeviceMap, device: str) -> None:
    """Checks what can be checked of a map before the model is there.

    Args:
        device_map: the map.
        device: what the user gave as `device`.

    Raises:
        WrongInput: the map is of no known name, is empty, or comes with a device.
    """
    if isinstance(device_map, str) and device_map not in _NAMED:
        raise WrongInput(
            f"`device_map` (={device_map}) must be one of {', '.join(_NAMED)}, or map parts of the model to "
            "devices; got another word; use auto"
        )
    if not device_map:
        raise WrongInput("`device_map` (={}) must map parts of the model to devices; got none; use auto")
    if device != "auto":
        raise WrongInput(
            f"`device` (={device}) must be left out with `device_map`, which says where the model runs; got both; give "
            "one of the two"
        )


def refuse_shared_gpus(gpus: int) -> None:
    """Checks that the processes of this machine do not split their models over the same GPUs.

    Args:
        gpus: number of GPUs that this process sees.

    Raises:
        WrongInput: a launcher has started several processes that see several GPUs.
    """
    processes = whole_number("LOCAL_WORLD_SIZE", 1)
    if processes > 1 and gpus > 1:
        raise WrongInput(
            f"`device_map` must have the GPUs of its process alone; got {processes} processes that see {gpus} each; "
            "start one process, or start each by itself with a CUDA_VISIBLE_DEVICES of its own"
        )


def input_device(model: nn.Module) -> torch.device:
    """Returns the device to put token ids on: that of the embeddings.

    Weights that are kept elsewhere until they are used have no device; accelerate then moves the ids along.
    """
    device: torch.device = model.get_input_embeddings().weight.device  # type: ignore[operator]
    return torch.device("cpu") if device.type == "meta" else device


def refuse_offloaded(model: nn.Module, device_map: DeviceMap | None) -> None:
    """Refuses weights that are kept elsewhere until they are used, where an adapter is to be merged into them.

    Raises:
        WrongInput: there are such weights.
    """
    if away := [name for name, weight in model.named_parameters() if weight.is_meta]:
        raise WrongInput(
            f"`device_map` (={device_map}) must keep all weights on GPUs or the CPU where an adapter is merged; got "
            f"{away[0]} elsewhere; merge and save the model first, or use another map"
        )


def say_split(model: PreTrainedModel, name: str) -> None:
    """Says how many parts of a model are where."""
    parts = Counter(_device_name(device) for device in getattr(model, "hf_device_map", {"": model.device}).values())
    if len(parts) == 1:
        say(f"{name} is not split: all of it is on {min(parts)}")
    else:
        where = ", ".join(f"{count} on {device}" for device, count in sorted(parts.items()))
        say(f"{name} is split into {parts.total()} parts: {where}")


def _device_name(device: object) -> str:
    return f"cuda:{device}" if isinstance(device, int) else str(device)
