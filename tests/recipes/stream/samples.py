"""Keys of a stream whose producer and training are tiny."""

from __future__ import annotations

from distsae.cli.parsing import from_keys
from distsae.recipes.stream import StreamConfig
from distsae.recipes.stream.plan import planned

PRODUCE = {"model": "none", "corpus": "none", "hooks": ["blocks.0.resid_post", "blocks.1.resid_post"], "max_rows": 900}
TRAIN = {"hook": "blocks.1.resid_post", "sae": {"d_sae": 64, "k": 4}, "batch_tokens": 64}


def config(out, **keys):
    """The config of a stream, as it is unless `keys` say otherwise."""
    return StreamConfig(out=str(out), **({"produce": PRODUCE, "train": TRAIN} | keys))


def plan(out, **keys):
    return planned(config(out, **keys), from_keys)
