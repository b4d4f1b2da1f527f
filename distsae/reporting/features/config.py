"""The config of feature pages: which SAE, on which rows, and what is kept of each feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distsae.errors import WrongInput, nearest
from distsae.store.mounted_path import mounted_path

__all__ = ["FORMATS", "SITE_SHARD", "FeaturesConfig"]

FORMATS = ("site", "parquet", "neuronpedia", "saedashboard")
"""What can be written."""

SITE_SHARD = 64
"""Features in one file of the site: so many are read to show one."""


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Makes a page about each feature of a trained SAE: how often it fires, on what text, and with which others.

    Args:
        run: run folder, folder of an SAE, or name of one on the Hub (user/repository/folder, saelens:RELEASE/SAE_ID).
        store: activation store whose rows are read.
        out: folder to write; by default features/ in `run`.
        model: name or folder of the language model, for its tokenizer and unembedding; by default the store's model.
        split: rows to read, train or heldout.
        max_rows: most rows to read, in whole contexts, at least one.
        format: what to write, with commas between: site, parquet, neuronpedia, saedashboard.
        top_contexts: contexts to show in which a feature fires most strongly.
        sampled_contexts: contexts to show from all over the range of a feature's activations.
        tokens_before: tokens to show before the strongest one of a context.
        tokens_after: tokens to show after it.
        tokens: tokens to show that a feature promotes most, and as many that it suppresses most.
        neighbours: features to show with the nearest decoder rows, and as many that fire together with it.
        correlation_rows: rows, the first ones in whole contexts, on which it is counted which features fire together.
        device: device to work on: auto, cpu, cuda or cuda:N.
        trust_remote_code: whether code that came with the model may run; it must be the code that made the store.
        part_rows: rows that a process takes at a time, in whole contexts; memory grows with it.
        shard_features: features that a process finishes at a time, and features in a Parquet or JSON file.
    """

    run: str
    store: str
    out: str | None = None
    model: str | None = None
    split: Literal["train", "heldout"] = "train"
    max_rows: int = 1_000_000
    format: str = "site,parquet"
    top_contexts: int = 12
    sampled_contexts: int = 8
    tokens_before: int = 24
    tokens_after: int = 12
    tokens: int = 10
    neighbours: int = 10
    correlation_rows: int = 65_536
    device: str = "auto"
    trust_remote_code: bool = False
    part_rows: int = 32_768
    shard_features: int = 512

    def __post_init__(self) -> None:
        """Expands `~`, and refuses URLs, unknown formats and counts that are too small.

        Raises:
            WrongInput: one of them is given.
        """
        for name in ("run", "out"):
            if value := getattr(self, name):
                object.__setattr__(self, name, str(mounted_path(value, name)))
        for name in ("max_rows", "part_rows", "top_contexts"):
            if (value := getattr(self, name)) < 1:
                raise WrongInput(f"`{name}` (={value}) must be at least 1; give a positive number")
        for name in ("sampled_contexts", "tokens_before", "tokens_after", "tokens", "neighbours", "correlation_rows"):
            if (value := getattr(self, name)) < 0:
                raise WrongInput(f"`{name}` (={value}) must be at least 0; give 0 to leave it out")
        if self.shard_features < SITE_SHARD or self.shard_features % SITE_SHARD:
            raise WrongInput(
                f"`shard_features` (={self.shard_features}) must be a multiple of {SITE_SHARD}, the features in one "
                f"file of the site; use {max(1, round(self.shard_features / SITE_SHARD)) * SITE_SHARD}"
            )
        if not self.formats:
            raise WrongInput(f"`format` (={self.format}) must name what to write; give one or more of {_NAMED}")
        for name in self.formats:
            if name not in FORMATS:
                raise WrongInput(f"`format` (={self.format}) must be of {_NAMED}; got {name}{nearest(name, FORMATS)}")

    @property
    def formats(self) -> tuple[str, ...]:
        """What to write, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.format.split(",") if name.strip()))


_NAMED = ", ".join(FORMATS)
