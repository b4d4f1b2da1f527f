"""A small run of two processes whose every file is compared, and what of it may differ."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from distsae import SAE
from tests.end_to_end.launching import train_words

EFFORT = ("seconds", "tokens_per_second")
"""What a logged line says of the time it took."""


def arguments(store: Path, out: Path, **changes: object) -> list[str]:
    """`distsae train` on 1x2, through what a checkpoint has to hold: the auxiliary loss, MC, then FC and its credit."""
    values = {
        "store": store,
        "out": out,
        "hook": "blocks.0.resid_post",
        "steps": 60,
        "batch_tokens": 256,
        "sae.d_sae": 128,
        "sae.k": 4,
        "mesh.feature": 2,
        "optimizer.lr": 2e-3,
        "finetune_fc_from": 0.6,
        "quota_refresh": 8,
        "auxiliary.dead_after_tokens": 600,
        "auxiliary.window_tokens": 1000,
        "auxiliary.refresh_steps": 3,
        "log_every": 1,
        "wandb": "off",
    }
    return train_words(values | changes)


def metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what they say of time."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in EFFORT} for line in lines]


def newest_tensors(out: Path) -> dict[str, str]:
    """A digest of every tensor of the newest checkpoint, by file and name."""
    folder = max((out / "checkpoints").glob("step-*"))
    return {
        f"{folder.name}/{path.name}/{name}": hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def assert_same_end(out: Path, other: Path) -> None:
    """Asserts that two runs ended with the same bits: weights, every tensor of the checkpoint, every logged line."""
    weights = [path / "sae" / "sae.safetensors" for path in (out, other)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert newest_tensors(out) == newest_tensors(other)
    assert metrics(out) == metrics(other)


def assert_same_but_for_rounding(sae: SAE, other: SAE) -> None:
    """Asserts that two SAEs were trained alike by sums in another order.

    Rounding may give a match at the cut to another feature, and Adam makes whole steps of that; so tensors are
    compared as wholes. Encoder biases begin at zero: a feature that was trained otherwise is a tenth of them.
    """
    for name, tensor in other.state_dict().items():
        difference, size = (values.double().norm() for values in (sae.state_dict()[name] - tensor, tensor))
        assert difference <= 0.01 * size, (name, float(difference), float(size))
