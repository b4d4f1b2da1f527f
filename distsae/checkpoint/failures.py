"""What a checkpoint that cannot be completed says, on every rank alike."""

from __future__ import annotations

from distsae.errors import DistsaeError

__all__ = ["CheckpointFailed"]


class CheckpointFailed(DistsaeError):
    """The machine would not read or write: a full disk, a lost folder; the text names the rank and the file."""

    of_all_ranks = True
