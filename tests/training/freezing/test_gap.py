"""The gap: L0 and FVU under both rules equal those of the plain functions on dense scores, on every mesh."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from distsae.allocation import QuotaCredit, feature_choice, mutual_choice, priced_choice, token_choice
from distsae.batches import Normalisation
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import SizeConfig, TrainConfig, initial_state
from distsae.training.freezing.gap import FrozenGap, frozen_gap
from tests.distributed.processes import run_on_mesh
from tests.training.samples import D_SAE, RULES, K, activations, mean_and_variance, moved_shard_on

BATCH = 128
AS_IT_IS = Normalisation(1.0, None)
PRICE = torch.linspace(0.5, 2.0, D_SAE, dtype=torch.float64).flip(0)
ROWS = torch.cat([activations(step) for step in range(4)])[:320]  # two batches and a half


def _measure(mesh, rule):
    """Returns the gap, and the quotas per token of this rank's features."""
    state = _state(mesh, rule)
    state.phases.prepare(1, state.statistics)
    features = mesh.features(D_SAE)
    if rule == "priced_choice":
        state.phases.prices.price.copy_(PRICE[features.start : features.stop])
    before = {name: tensor.clone() for name, tensor in state.phases.tensors().items()}
    gap = frozen_gap(state, _thresholds_on(mesh, rule), ROWS, AS_IT_IS)
    for name, tensor in state.phases.tensors().items():
        assert torch.equal(tensor, before[name])  # the credit of the run is not spent
    return gap, state.phases.credit.quota_per_token if state.phases.credit is not None else None


def _state(mesh, rule):
    priced = rule == "priced_choice"
    config = TrainConfig(
        store="s",
        out="o",
        sae=SizeConfig(d_sae=D_SAE, k=K),
        batch_tokens=BATCH,
        allocation="feature_choice" if priced else rule,
        quotas_hold="on_average" if priced else "every_batch",
        steps=9,
    )
    state = initial_state(config, moved_shard_on(mesh), mesh, *mean_and_variance())
    state.phases.prepare(0, state.statistics)
    return state


def _thresholds_on(mesh, rule):
    features = mesh.features(D_SAE)
    return _thresholds()[features.start : features.stop] if rule != "token_choice" else None


def _thresholds():
    thresholds = torch.linspace(0.5, 1.5, D_SAE)
    thresholds[7], thresholds[8] = torch.inf, -1.0  # one never fires, the other for every positive score
    return thresholds


@pytest.mark.parametrize("rule", [*RULES, "priced_choice"])
def test_equals_the_plain_functions_on_every_mesh(rule):
    alone = build_mesh(MeshConfig(), 1, "cpu")
    shard, (gap, quotas) = moved_shard_on(alone), _measure(alone, rule)
    with torch.no_grad():
        scores = ((ROWS - shard.b_dec) @ shard.W_enc.t() + shard.b_enc).relu()
        credit, training = QuotaCredit(quotas, K) if quotas is not None else None, []
        for batch in scores.split(BATCH):
            found = {
                "token_choice": lambda x: token_choice(x, K),
                "mutual_choice": lambda x: mutual_choice(x, K * len(x)),
                "feature_choice": lambda x: feature_choice(x, credit.pay(len(x))),
                "priced_choice": lambda x: priced_choice(x, PRICE, K * len(x)),
            }[rule](batch)
            training.append(batch * (found.dense(len(batch), D_SAE) > 0))
        by_rule = {"l0_training": torch.cat(training)}
        by_rule["l0"] = by_rule["l0_training"] if rule == "token_choice" else scores * (scores > _thresholds())
        expected = {"rows": 320}
        energy = (ROWS - ROWS.mean(0)).square().sum()
        for name, acts in by_rule.items():
            error = (acts @ shard.W_dec + shard.b_dec - ROWS).square().sum()
            expected[name], expected[name.replace("l0", "fvu")] = int((acts > 0).sum()) / 320, (error / energy).item()
    assert dataclasses.asdict(gap) == pytest.approx(expected, rel=1e-6)
    assert 1 < gap.l0 < D_SAE / 2
    for shape in ((1, 2), (2, 1), (2, 2), (1, 3)):
        for other, _ in run_on_mesh(_measure, shape, rule):
            assert dataclasses.asdict(other) == pytest.approx(expected, rel=1e-6), shape


def _measure_few(mesh, rule, rows):
    return frozen_gap(_state(mesh, rule), _thresholds_on(mesh, rule), ROWS[:rows], AS_IT_IS)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_fewer_rows_than_data_ranks_or_none(rows, rule):
    (alone,) = run_on_mesh(_measure_few, (1, 1), rule, rows)
    assert alone.rows == rows
    assert (alone.l0 is None) == (rows == 0)
    assert (alone.fvu is None) == (rows <= 1)
    json.dumps(dataclasses.asdict(alone), allow_nan=False)
    assert ("no held-out rows" in alone.sentence()) == (rows == 0)
    assert ("FVU unknown" in alone.sentence()) == (rows == 1)
    for shape in ((2, 2), (4, 1)):
        for gap in run_on_mesh(_measure_few, shape, rule, rows):
            for name, number in dataclasses.asdict(alone).items():
                other = getattr(gap, name)
                assert other is None if number is None else other == pytest.approx(number, rel=1e-6), (shape, name)


def test_the_sentence():
    gap = FrozenGap(16384, 31.99, 32.0, 0.06021, 0.06)
    assert gap.sentence() == (
        "frozen rule on 16,384 held-out rows: L0 31.99 (training rule 32.00), FVU 0.0602 (0.0600)"
    )


@pytest.mark.parametrize(
    ("found", "warned"),
    [
        ({}, False),
        ({"fvu": 0.23}, False),
        ({"fvu": 0.25}, True),
        ({"l0": 5.0}, True),
        ({"l0": 40.0}, True),
        ({"fvu": None}, False),
        ({"fvu": 0.1}, False),
    ],
)
def test_a_large_gap_is_a_warning(found, warned):
    gap = FrozenGap(**{"rows": 9, "l0": 32.5, "l0_training": 32.0, "fvu": 0.21, "fvu_training": 0.2, **found})
    assert (gap.warning() is not None) == warned
    if warned:
        assert f"L0 {gap.l0:.4g} instead of 32, FVU {gap.fvu:.4g} instead of 0.2" in gap.warning()
