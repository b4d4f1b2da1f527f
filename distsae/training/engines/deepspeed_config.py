"""The settings of the deepspeed engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DeepSpeedConfig"]


@dataclass(frozen=True, kw_only=True)
class DeepSpeedConfig:
    """ZeRO over the data axis.

    Args:
        zero_stage: stage of ZeRO: 1 shards the optimizer's state over the data axis, 2 the gradients as well.
        offload_optimizer: memory that the optimizer's state is moved to: `cpu`, or `none` to keep it on the device.
    """

    zero_stage: Literal[1, 2] = 1
    offload_optimizer: Literal["none", "cpu"] = "none"
