"""The memory that saving a checkpoint takes in addition to the state that is saved."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from distsae.kernels import moments_of
from distsae.planning.items import STEPPING, Facts, Item, MemoryKind
from distsae.training import TrainConfig

__all__ = ["COPY", "saved_bytes", "saving_items"]

COPY = "copy of the state, written while training goes on"

_WRITTEN_AT_ONCE = 64 << 20
"""Bytes of rows that are on their way from a GPU to a file."""

_COUNTS_BYTES = 33
"""Bytes of a feature in a checkpoint: firing statistics and thresholds."""

_QUOTA_BYTES = 16
"""Bytes of a feature in a checkpoint of Feature Choice: quota, and credit or price."""

_REHEARSAL_BYTES = 16
"""Bytes of a feature in a checkpoint with `quota_refresh`: matches and age in the rehearsal for new ranks."""


def saving_items(config: TrainConfig, facts: Facts, features: int) -> Iterator[Item]:
    """Yields the items that saving adds on the first rank.

    The copy is kept from one checkpoint to the next until training is done. Members of a sweep are saved one after
    another into the same copy.

    Args:
        config: config of the run.
        facts: facts about the store and the machine.
        features: number of features of the rank. Data ranks hold the same rows, and each saves its share of them.
    """
    device: MemoryKind = "device" if facts.gpu else "host"
    matrix, ranks = 4 * features * facts.d_in, config.mesh.data
    zero = config.engine == "deepspeed"
    if zero:
        yield Item("DeepSpeed: a moment gathered, to be saved", matrix, ("save",), device)
    if config.checkpoint.asynchronous:
        replicated = 3 * 4 * facts.d_in
        yield Item(COPY, features * saved_bytes(config, facts.d_in) // ranks + replicated, STEPPING)
        return
    if zero:
        yield Item("DeepSpeed: this rank's share of the moments, to be saved", 4 * matrix // ranks, ("save",))
    if facts.gpu:
        yield Item("blocks of rows on their way to a file", _WRITTEN_AT_ONCE, ("save",))


def saved_bytes(config: TrainConfig, d_in: int) -> int:
    """Returns the bytes of one feature in a checkpoint: its rows, their moments and its statistics."""
    weights = 4 * (2 * d_in + 1)
    row = torch.empty(1, d_in, device="meta")
    moments = moments_of("W_enc", row, config.optimizer.state, 0, 0).tensors().values()
    size = weights + 2 * sum(tensor.nbytes for tensor in moments) + 8 + _COUNTS_BYTES
    if config.ema_decay is not None:
        size += weights
    if config.allocation == "feature_choice" or config.finetune_fc_from is not None:
        size += _QUOTA_BYTES + (_REHEARSAL_BYTES if config.quota_refresh is not None else 0)
    return size
