"""Whole runs with divided moments equal those without, bit for bit, under every rule, on every mesh.

Without micro-batches they equal those of one data rank too. With them, data ranks sum matches in another order.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch

from distsae.training import AuxiliaryConfig, CheckpointConfig, OptimizerConfig, SizeConfig, TrainConfig
from tests.distributed.meshed_runs import Layout, walked
from tests.distributed.processes import run_on_mesh

D_SAE, STEPS = 97, 12
RUNS = {
    "MC, aux_zipf": {},
    "MC, aux_k, in two micro-batches, averaged": {"aux": "aux_k", "accumulation": 2, "ema_decay": 0.9},
    "TC, no aux": {"allocation": "token_choice", "aux": "none"},
    "FC, no aux": {"allocation": "feature_choice", "aux": "none"},
    "FC with prices, aux_zipf, clipped": {
        "allocation": "feature_choice",
        "quotas_hold": "on_average",
        "optimizer": OptimizerConfig(lr=2e-3, clip_norm=0.05),
    },
    "MC to FC, in two micro-batches": {"finetune_fc_from": 0.5, "accumulation": 2},
    "MC, moments in bf16": {"optimizer": OptimizerConfig(lr=2e-3, state="bf16")},
    "FC, moments in int8": {
        "allocation": "feature_choice",
        "optimizer": OptimizerConfig(lr=2e-3, state="int8", clip_norm=0.05),
    },
}
FEW = [("MC, aux_k, in two micro-batches, averaged", (2, 1)), ("FC, moments in int8", (4, 1)), ("TC, no aux", (2, 2))]


def _config(store: Path, out: Path, **changes) -> TrainConfig:
    values = {
        "store": str(store),
        "out": str(out),
        "hook": "blocks.1.resid_post",
        "steps": STEPS,
        "batch_tokens": 256,
        "sae": SizeConfig(d_sae=D_SAE, k=4),
        "optimizer": OptimizerConfig(lr=2e-3),
        "auxiliary": AuxiliaryConfig(rho=0.9, dead_after_tokens=500, window_tokens=2000, refresh_steps=2),
        "checkpoint": CheckpointConfig(every=1000),
        "prefilter": "bf16",
        "log_every": 1000,
        "wandb": "off",
    }
    return TrainConfig(**(values | changes))


def _check(run: str, shape: tuple[int, int], store: Path, folder: Path) -> None:
    def state(layout: Layout) -> list[dict[str, torch.Tensor]]:
        config = layout.of(_config(store, folder / str(layout), **RUNS[run]))
        return [stops[0] for stops in run_on_mesh(walked, layout.shape, config, [STEPS])]

    layouts = [Layout(shape), Layout(shape, divided=True)]
    if "accumulation" not in RUNS[run]:
        layouts.append(Layout((1, shape[1])))
    expected, *others = [found for layout in layouts for found in state(layout)]
    assert expected["firing.matches"].any()
    for found in others:
        assert found.keys() == expected.keys()
        assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize(("run", "shape"), FEW, ids=str)
def test_a_run_is_the_same_bit_for_bit(run, shape, tiny_store, tmp_path):
    _check(run, shape, tiny_store, tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize(("run", "shape"), product(RUNS, [(1, 1), (2, 1), (4, 1), (2, 2)]), ids=str)
def test_every_run_is_the_same_bit_for_bit(run, shape, tiny_store, tmp_path):
    _check(run, shape, tiny_store, tmp_path)
