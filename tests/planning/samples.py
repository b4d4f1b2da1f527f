"""Facts and a run to plan with."""

from __future__ import annotations

from dataclasses import replace

from distsae.planning import Facts
from distsae.training import SizeConfig, TrainConfig

FACTS = Facts(
    d_in=48,
    storage_bytes=2,
    heldout_rows=100_000,
    reader_bytes=1 << 20,
    process_bytes=1 << 28,
    gpu=False,
    prefilter=True,
)
GPU = replace(FACTS, gpu=True)


def run(d_sae: int = 4096, **changes: object) -> TrainConfig:
    """A run of that many features."""
    return replace(TrainConfig(store="store", out="out", sae=SizeConfig(d_sae=d_sae)), **changes)
