"""Checkpoints that any mesh can read: sharded, committed atomically, verified on load.

A checkpoint holds two kinds of tensor: replicated ones, and `Shard`s, which are row ranges of a global tensor. All that
its files record about the mesh is which rows lie in which file, so a checkpoint of 2x2 processes loads into 1x1, 1x4 or
an uneven 1x3.
"""

from __future__ import annotations

from distsae.checkpoint.config import CheckpointConfig
from distsae.checkpoint.keeping import abandon_after, newest, prune
from distsae.checkpoint.loading import load
from distsae.checkpoint.manifest import facts_of
from distsae.checkpoint.ranks import Ranks
from distsae.checkpoint.saver import Saver
from distsae.checkpoint.saving import save
from distsae.checkpoint.state import JSON, Shard, State, Streamed
from distsae.checkpoint.verifying import verify
from distsae.errors import CheckpointFailed

__all__ = [
    "JSON",
    "CheckpointConfig",
    "CheckpointFailed",
    "Ranks",
    "Saver",
    "Shard",
    "State",
    "Streamed",
    "abandon_after",
    "facts_of",
    "load",
    "newest",
    "prune",
    "save",
    "verify",
]
