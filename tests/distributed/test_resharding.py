"""Any mesh and engine loads a checkpoint of any other bit for bit, and continues the run as the other would have.

    pytest tests/distributed/test_resharding.py -m heavy -s

tests all pairs and prints the largest differences between the runs afterwards.
"""

from __future__ import annotations

import dataclasses
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distsae.training import AuxiliaryConfig, CheckpointConfig, OptimizerConfig, SizeConfig, TrainConfig
from tests.distributed.meshed_runs import Layout, walked
from tests.distributed.processes import run_on_mesh

STOP = 30
MORE = 50
FEWER = 15
D_SAE = 97
assert D_SAE % 2
assert D_SAE % 3
assert D_SAE % 4, "no feature axis divides it"

RUNS = {
    # At the stop it is under Feature Choice, with prices, a rehearsal and an average of the weights.
    "MC to FC": {"finetune_fc_from": 0.25, "quota_refresh": 4, "ema_decay": 0.95},
    "MC with aux_zipf": {},
}
FEWER_BITS = {
    "MC, moments in bf16": {"optimizer": OptimizerConfig(lr=2e-3, state="bf16")},
    "MC, moments in int8": {"optimizer": OptimizerConfig(lr=2e-3, state="int8")},
}


PLAIN = [Layout(shape) for shape in ((1, 1), (1, 2), (2, 1), (1, 4), (2, 2), (4, 1), (1, 3))]
DIVIDED = [Layout(shape, divided=True) for shape in ((2, 1), (4, 1), (2, 2), (1, 2))]
ZERO = [Layout((2, 1), 1), Layout((2, 1), 2), Layout((2, 2), 1), Layout((2, 2), 2)]
PARAMETERS = ("W_enc", "W_dec", "b_enc", "b_dec")
KINDS = ("parameters", "moments", "the rest")
TOLERANCE = {"parameters": 2e-6, "moments": 1e-5, "the rest": 2e-6}
"""Largest difference, relative to the largest number of the tensor, about five times as large as measured. Integers
must be equal. If only the data axis of the plain engine differs, all numbers must be equal."""

ROUNDED = {"parameters": 5e-3, "moments": 1.0, "the rest": 1.0}
"""The same for moments in fewer bits, where only parameters are compared: a last bit decides how a moment is rounded,
which changes weights enough to exchange scores at the cut, so that other features fire."""


def _config(store: Path, out: Path, **changes) -> TrainConfig:
    values = {
        "store": str(store),
        "out": str(out),
        "hook": "blocks.1.resid_post",
        "steps": STOP + MORE,
        "batch_tokens": 256,
        "sae": SizeConfig(d_sae=D_SAE, k=4),
        "optimizer": OptimizerConfig(lr=2e-3),
        "auxiliary": AuxiliaryConfig(rho=0.9, dead_after_tokens=500, window_tokens=2000, refresh_steps=4),
        "checkpoint": CheckpointConfig(every=STOP, keep_last=9),
        "prefilter": "bf16",  # certified scores do not depend on the split of a batch
        "log_every": 1000,
        "wandb": "off",
    }
    return TrainConfig(**(values | changes))


def _walk(layout: Layout, config: TrainConfig, stops: list[int]) -> list[dict[str, Tensor]]:
    """Returns the whole state at each stop, which must be the same on all ranks."""
    ranks = run_on_mesh(walked, layout.shape, layout.of(config), stops)
    for rank in ranks[1:]:
        for first, other in zip(ranks[0], rank, strict=True):
            assert first.keys() == other.keys()
            assert [name for name in first if not torch.equal(first[name], other[name])] == []
    return ranks[0]


def _differences(
    before: Layout, after: Layout, run: str, straight: list[dict[str, Tensor]], config: TrainConfig, more: int
) -> dict[str, float]:
    """Resumes the run of one layout in another, and compares it with the run without a stop.

    Args:
        before: layout that saved the checkpoint.
        after: layout that resumes from it.
        run: name of the run.
        straight: state of the run in `before` at the checkpoint and `more` steps later.
        config: config of the run in `before`.
        more: number of steps after the checkpoint.

    Returns:
        Largest relative differences after these steps, by kind.
    """
    out = Path(config.out).with_name(f"{Path(config.out).name} to {after}")
    point = Path(config.out) / "checkpoints" / f"step-{STOP:08d}"
    loaded, later = _walk(after, dataclasses.replace(config, out=str(out), resume=str(point)), [STOP, STOP + more])
    assert loaded.keys() == later.keys() == straight[0].keys()
    assert [name for name in loaded if not torch.equal(loaded[name], straight[0][name])] == []
    case = (run, str(before), str(after))
    differences = dict.fromkeys(KINDS, 0.0)
    for name, tensor in later.items():
        expected, kind = straight[1][name], _kind(name)
        if not tensor.is_floating_point() and run in RUNS:
            assert torch.equal(tensor, expected), (*case, name)
        largest = expected.double().abs().max().clamp(min=1e-30)
        difference = float((tensor.double() - expected.double()).abs().max() / largest)
        differences[kind] = max(differences[kind], difference)
    if before == after or (before.zero is None is after.zero and before.shape[1] == after.shape[1]):
        assert not any(differences.values()), (*case, differences)
    tolerance = TOLERANCE if run in RUNS else ROUNDED
    assert all(differences[kind] <= tolerance[kind] for kind in KINDS), (*case, differences)
    return differences


def _kind(name: str) -> str:
    return "parameters" if name in PARAMETERS else "moments" if name.startswith("adam.exp") else "the rest"


def _assert_resumes(
    before: Layout, afters: list[Layout], run: str, store: Path, folder: Path, more: int = FEWER
) -> None:
    """Compares runs that resume in other layouts; within `FEWER` steps rounding hardly ever exchanges two matches."""
    config = _config(store, folder / str(before), **(RUNS | FEWER_BITS)[run])
    straight = _walk(before, config, [STOP, STOP + more])
    assert straight[0]["firing.matches"].any()
    assert straight[0]["underused.members"].any()
    assert ("quotas.price" in straight[0]) == (run == "MC to FC")
    for after in afters:
        differences = _differences(before, after, run, straight, config, more)
        print(f"{run}: {before} to {after}: " + ", ".join(f"{kind} {differences[kind]:.0e}" for kind in KINDS))


def test_another_mesh_resumes(tiny_store, tmp_path):
    _assert_resumes(Layout((1, 3)), [Layout((1, 1)), Layout((2, 2))], "MC to FC", tiny_store, tmp_path)
    _assert_resumes(Layout((2, 1)), [Layout((1, 1)), Layout((1, 3))], "MC with aux_zipf", tiny_store, tmp_path)


def test_divided_moments_resume_on_another_mesh_and_back(tiny_store, tmp_path):
    two, four = Layout((2, 1), divided=True), Layout((4, 1), divided=True)
    others = [Layout((1, 1)), Layout((1, 2)), Layout((2, 1)), four, Layout((2, 2), divided=True)]
    _assert_resumes(two, others, "MC to FC", tiny_store, tmp_path)
    _assert_resumes(Layout((1, 1)), [two, four], "MC with aux_zipf", tiny_store, tmp_path)
    _assert_resumes(Layout((1, 2)), [two], "MC with aux_zipf", tiny_store, tmp_path)


@pytest.mark.parametrize("run", FEWER_BITS)
def test_divided_moments_in_fewer_bits_resume(run, tiny_store, tmp_path):
    two, four = Layout((2, 1), divided=True), Layout((4, 1), divided=True)
    _assert_resumes(four, [two, Layout((1, 1)), Layout((2, 1))], run, tiny_store, tmp_path)
    _assert_resumes(Layout((1, 1)), [two], run, tiny_store, tmp_path)


def test_another_engine_resumes(tiny_store, tmp_path):
    pytest.importorskip("deepspeed")
    zero = Layout((2, 1), 2)
    _assert_resumes(zero, [Layout((1, 2)), zero, Layout((2, 1), divided=True)], "MC to FC", tiny_store, tmp_path)
    _assert_resumes(Layout((1, 2)), [zero], "MC with aux_zipf", tiny_store, tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize(("run", "before"), product(RUNS, [*PLAIN, *DIVIDED, *ZERO]), ids=str)
def test_all_pairs(run, before, tiny_store, tmp_path):
    pytest.importorskip("deepspeed")
    _assert_resumes(before, [*PLAIN, *DIVIDED, *ZERO], run, tiny_store, tmp_path, MORE)


@pytest.mark.heavy
@pytest.mark.parametrize(("run", "before"), product(FEWER_BITS, [*PLAIN, *DIVIDED]), ids=str)
def test_all_plain_pairs_with_moments_in_fewer_bits(run, before, tiny_store, tmp_path):
    """Rounding follows from seed, step and row, for any split of the rows."""
    _assert_resumes(before, [*PLAIN, *DIVIDED], run, tiny_store, tmp_path, MORE)
