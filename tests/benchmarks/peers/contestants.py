"""Who takes part, and in whose environment."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONTESTANTS", "OURS", "Entry"]

OURS = "mutual_choice"
"""Who all others are compared to."""


@dataclass(frozen=True)
class Entry:
    """Where a contestant's step is.

    Args:
        module: module of this folder whose `build` makes it.
        arguments: what else `build` is given.
        peer: whether it needs the environment of the peers.
    """

    module: str
    arguments: tuple[str, ...] = ()
    peer: bool = False


CONTESTANTS = {
    OURS: Entry("distsae_step", ("mutual_choice",)),
    "mutual_choice, every score in fp32": Entry("distsae_step", ("mutual_choice", "", "none")),
    "token_choice": Entry("distsae_step", ("token_choice",)),
    "feature_choice": Entry("distsae_step", ("feature_choice",)),
    "mutual_choice with aux_zipf": Entry("distsae_step", ("mutual_choice", "aux_zipf")),
    "floor": Entry("floor_step"),
    "sparsify TopK": Entry("sparsify_step", peer=True),
    "dense PyTorch BatchTopK": Entry("dense_step"),
    "dictionary_learning BatchTopK": Entry("dictionary_learning_step", peer=True),
    "SAELens BatchTopK": Entry("sae_lens_step", peer=True),
}
