"""distsae's own files, `config.json` and `sae.safetensors`, as they are written from blocks.

Any reader of safetensors opens the weights, so this is also the format for those who use no tool.
"""

from __future__ import annotations

import torch

from distsae.model.formats.foreign_sae import Exported
from distsae.model.formats.tensor_writing import from_source
from distsae.model.formats.weight_source import WeightSource
from distsae.model.sae_config import SAEConfig

__all__ = ["CONFIG", "WEIGHTS", "exported"]

WEIGHTS = "sae.safetensors"
"""File of the weights."""

CONFIG = "config.json"
"""File of the `SAEConfig`. It is written last, so it describes an SAE whose weights are there."""

_EXACT = ("quota_per_token",)
"""Tensors that keep their dtype: quotas sum to `k`."""


def exported(cfg: SAEConfig, source: WeightSource, dtype: torch.dtype) -> Exported:
    """Returns what a folder of an SAE gets."""
    return Exported(
        weights=WEIGHTS,
        container="safetensors",
        tensors={name: from_source(source, name, None if name in _EXACT else dtype) for name in sorted(source.names())},
        documents={CONFIG: cfg.to_dict()},
        digested=CONFIG,
    )
