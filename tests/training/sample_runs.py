"""A small run of every kind, and what is compared of its folder."""

from __future__ import annotations

import json
from pathlib import Path

from distsae.training import AuxiliaryConfig, CheckpointConfig, OptimizerConfig, SizeConfig, TrainConfig

STEPS = 30
STOP = 15
"""Where a run of `STEPS` is stopped: at its first checkpoint."""

D_SAE = 256
TIMES = ("seconds", "tokens_per_second")
"""What alone may differ in a resumed run."""


def config_of(store: Path, out: Path, **changes) -> TrainConfig:
    values = {
        "store": str(store),
        "out": str(out),
        "hook": "blocks.1.resid_post",
        "steps": STEPS,
        "batch_tokens": 256,
        "sae": SizeConfig(d_sae=D_SAE, k=4),
        "optimizer": OptimizerConfig(lr=2e-3),
        # 15 is a multiple neither of the steps between lines nor of those between fits.
        "auxiliary": AuxiliaryConfig(rho=0.9, dead_after_tokens=500, window_tokens=2000, refresh_steps=4),
        "checkpoint": CheckpointConfig(every=STOP, keep_last=3),
        "log_every": 4,
        "wandb": "off",
    }
    return TrainConfig(**(values | changes))


def metrics(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def state(path: Path) -> dict[str, bytes]:
    """The files of a checkpoint that hold tensors."""
    return {file.name: file.read_bytes() for file in path.glob("*.safetensors")}
