"""Configs of small runs, and the parts of a run folder that tests compare."""

from __future__ import annotations

import json
from pathlib import Path

from distsae.training import AuxiliaryConfig, CheckpointConfig, OptimizerConfig, SizeConfig, TrainConfig

STEPS = 30
STOP = 15
"""Step after which a run of `STEPS` steps is stopped: that of its first checkpoint."""

D_SAE = 256
TIMES = ("seconds", "tokens_per_second")
"""The only metrics that may differ between a resumed run and one without a stop."""


def config_of(store: Path, out: Path, **changes) -> TrainConfig:
    """Returns the config of a run of `STEPS` steps on the tiny store, with changes."""
    values = {
        "store": str(store),
        "out": str(out),
        "hook": "blocks.1.resid_post",
        "steps": STEPS,
        "normalise": "scale",  # tests/distributed/test_outlier_rows.py trains on rows that are normalised one by one
        "batch_tokens": 256,
        "sae": SizeConfig(d_sae=D_SAE, k=4),
        "optimizer": OptimizerConfig(lr=2e-3),
        # Lines are logged and curves fitted every 4 steps, of which 15, the step of the checkpoint, is no multiple.
        "auxiliary": AuxiliaryConfig(rho=0.9, dead_after_tokens=500, window_tokens=2000, refresh_steps=4),
        "checkpoint": CheckpointConfig(every=STOP, keep_last=3),
        "log_every": 4,
        "wandb": "off",
    }
    return TrainConfig(**(values | changes))


def metrics(out: Path) -> list[dict]:
    """Returns the logged lines of a run without the metrics that depend on time."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def state(path: Path) -> dict[str, bytes]:
    """Returns the contents of all tensor files of a checkpoint or an SAE, by file name."""
    return {file.name: file.read_bytes() for file in path.glob("*.safetensors")}
