"""The state of the training: a checkpoint of its tensors and facts is all that a resumed run needs."""

import json

import pytest
import torch

from distsae.allocation import Placement, select
from distsae.batches import Batch
from distsae.checkpoint import Shard
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import OptimizerConfig, SizeConfig, TrainConfig, initial_state, training_step
from tests.training.samples import D_SAE, activations, mean_and_variance, shard_on

MESH = build_mesh(MeshConfig(), 1, "cpu")
SHARDED = {
    *("W_enc", "W_dec", "b_enc", "firing.matches", "firing.tokens_since_fired", "underused.members"),
    *("threshold.total", "threshold.weight"),
    *(f"adam.{part}.{name}" for part in ("exp_avg", "exp_avg_sq") for name in ("W_enc", "W_dec", "b_enc")),
}
WHOLE = {
    *("b_dec", "firing.tokens", "adam.exp_avg.b_dec", "adam.exp_avg_sq.b_dec"),
    *(f"adam.step.{name}" for name in ("W_enc", "W_dec", "b_enc", "b_dec")),
}


def _state(**changes):
    config = TrainConfig(store="s", out="o", sae=SizeConfig(d_sae=D_SAE, k=4), batch_tokens=64, steps=10, **changes)
    return initial_state(config, shard_on(MESH, torch.float32), MESH, *mean_and_variance(torch.float32))


def test_tensors_are_sharded_by_feature_or_replicated():
    tensors = _state().tensors()
    assert {name for name, value in tensors.items() if isinstance(value, Shard)} == SHARDED
    assert {name for name, value in tensors.items() if not isinstance(value, Shard)} == WHOLE
    for name in SHARDED:
        assert (tensors[name].offset, tensors[name].total, len(tensors[name].local)) == (0, D_SAE, D_SAE)


def test_moments_in_8_bits_have_scales():
    tensors = _state(optimizer=OptimizerConfig(state="int8")).tensors()
    scales = {f"adam.{part}_scale.{name}" for part in ("exp_avg", "exp_avg_sq") for name in ("W_enc", "W_dec")}
    assert {name for name, value in tensors.items() if isinstance(value, Shard)} == SHARDED | scales
    assert tensors["adam.exp_avg.W_enc"].local.dtype == torch.uint8


@pytest.mark.parametrize("hold", ["every_batch", "on_average"])
def test_feature_choice_adds_quotas_credit_or_prices_and_the_rehearsal(hold):
    state = _state(allocation="feature_choice", quota_refresh=3, quotas_hold=hold)
    state.phases.prepare(0, state.statistics)
    tensors = state.tensors()
    of_rule, whole = ("quotas.credit", set()) if hold == "every_batch" else ("quotas.price", {"quotas.least_price"})
    sharded = {"quotas.per_token", of_rule, "rehearsal.matches", "rehearsal.tokens_since_fired"}
    assert tensors.keys() - SHARDED - WHOLE == sharded | {"rehearsal.tokens"} | whole
    for name in sharded:  # one row per feature, so that any mesh can read them
        assert (tensors[name].offset, tensors[name].total, len(tensors[name].local)) == (0, D_SAE, D_SAE)
    assert not isinstance(tensors["rehearsal.tokens"], Shard)
    phases = state.phases
    assert tensors[of_rule].local is (phases.credit.credit if phases.credit is not None else phases.prices.price)


def test_filling_the_tensors_restores_the_run():
    state = _state()
    for value in state.tensors().values():
        (value.local if isinstance(value, Shard) else value).fill_(1)
    for parameter in state.shard.parameters():
        assert (parameter == 1).all()
    assert (state.statistics.matches == 1).all()
    assert state.underused.members.all()
    assert state.thresholds.thresholds().tolist() == [1.0] * D_SAE
    assert all((tensor == 1).all() for tensor in state.engine.tensors().values())


def _selected(state, *batches):
    """Selects from batches as a step does, and returns the number of passes over each of them."""
    passes = []
    for batch in batches:
        state.phases.prepare(0, state.statistics)
        state.phases.grant_quotas(len(batch))
        selectors = [state.phases.selector, *state.phases.observers, state.auxiliary]
        started = []

        def chunks(batch=batch, started=started):
            started.append(1)
            yield 0, batch.t().contiguous()

        select(selectors, chunks, Placement.solo(D_SAE), len(batch))
        passes.append(len(started))
    return passes


@pytest.mark.parametrize("changes", [{}, {"allocation": "feature_choice", "quota_refresh": 3}], ids=["MC", "FC"])
def test_a_restored_run_makes_as_many_passes(changes):
    """Forecasts are restored: when scores fall to a tenth, every bound is too high, and a second pass is needed."""
    large = torch.rand(64, D_SAE, generator=torch.Generator().manual_seed(0)) + 1
    straight, without_forecast = _state(**changes), _state(**changes)
    assert _selected(straight, large) == [1]
    forecasts = json.loads(json.dumps(straight.forecasts()))  # as a manifest stores them
    assert set(forecasts) == {"rule", "auxiliary", *(["rehearsal"] if changes else [])}
    resumed = _state(**changes)
    resumed.phases.restore(int(bool(changes)), None, resumed.statistics)
    resumed.restore_forecasts(forecasts)
    assert resumed.forecasts() == straight.forecasts()
    assert _selected(straight, large / 10, large / 10) == _selected(resumed, large / 10, large / 10) == [2, 1]
    assert _selected(without_forecast, large / 10) == [1]


def test_a_checkpoint_without_forecasts_is_restored_without_them():
    state = _state()
    _selected(state, torch.rand(64, D_SAE) + 1)
    assert state.forecasts()["rule"]["cut"] > 1
    state.restore_forecasts({})
    assert state.forecasts() == _state().forecasts() == {"rule": {"cut": None}, "auxiliary": {"cut": None}}


def test_facts_and_tensors_restore_the_whole_state():
    """`restore` gets nothing else, and training continues bit for bit, across the switch to Feature Choice."""
    before, after = _state(finetune_fc_from=0.5, ema_decay=0.9), _state(finetune_fc_from=0.5, ema_decay=0.9)
    for step in range(7):
        training_step(before, Batch(activations(step, torch.float32, 64)))
    facts = json.loads(json.dumps(before.facts()))
    saved = {name: _local(value).clone() for name, value in before.tensors().items()}

    def fill(tensors):
        for name, value in tensors.items():
            _local(value).copy_(saved[name])

    after.restore(7, facts, fill)
    for step in range(7, 10):
        x = activations(step, torch.float32, 64)
        assert training_step(before, Batch(x)) == training_step(after, Batch(x))
    assert (before.step, before.phases.rule) == (10, "feature_choice")
    for name, value in before.tensors().items():
        assert torch.equal(_local(value), _local(after.tensors()[name])), name
    without_times = [{**state.facts(), "meter": None} for state in (before, after)]
    assert without_times[0] == without_times[1]
    sums = [state.meter.facts() for state in (before, after)]
    for name in sums[0].keys() - {"seconds", "window_seconds"}:
        assert sums[0][name] == sums[1][name], name


def _local(value):
    return value.local if isinstance(value, Shard) else value
