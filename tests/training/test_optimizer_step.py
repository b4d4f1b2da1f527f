"""One optimizer step alone, as a notebook would do it: without a run folder, a job or a launcher."""

from __future__ import annotations

import math

import pytest
import torch

from distsae.batches import STREAMS, Batch
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import (
    AuxiliaryConfig,
    NonFiniteStep,
    OptimizerConfig,
    Selectors,
    SizeConfig,
    StepSettings,
    TrainConfig,
    TrainingState,
    forward_backward,
    initial_state,
    training_step,
)
from distsae.training.step import joined_outcome, micro_batches
from tests.training.broken_numbers import broken_gradient
from tests.training.samples import BATCH, D_SAE, RULES, K, activations, mean_and_variance, shard_on

MESH = build_mesh(MeshConfig(), 1, "cpu")
STEPS = 30


def _state(**changes) -> TrainingState:
    values = {"steps": STEPS, "optimizer": OptimizerConfig(lr=1e-2), "init_scale": 1.0, **changes}
    config = TrainConfig(store="s", out="o", sae=SizeConfig(d_sae=D_SAE, k=K), batch_tokens=BATCH, **values)
    return initial_state(config, shard_on(MESH, torch.float32), MESH, *mean_and_variance(torch.float32))


def _batch(step: int) -> torch.Tensor:
    return activations(step, torch.float32, tokens=BATCH)


def _weights(state: TrainingState) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in state.shard.named_parameters()}


def _assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_steps_are_counted_and_lower_the_loss():
    state = _state()
    losses = []
    for step in range(STEPS):
        before = state.meter.facts()["loss"]
        training_step(state, Batch(_batch(step)))
        losses.append(state.meter.facts()["loss"] - before)
        assert state.step == step + 1
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert state.meter.facts()["steps"] == STEPS
    assert state.meter.facts()["matches"] == STEPS * K * BATCH
    torch.testing.assert_close(state.shard.W_dec.norm(dim=1), torch.ones(D_SAE))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_first_step_scales_the_encoder_so_that_its_batch_is_reconstructed_best(rule, accumulation):
    lines = []
    scales = ("auto", 0.2, 1.0, 0.9)
    states = [_state(allocation=rule, init_scale=scale, accumulation=accumulation) for scale in scales]
    for state in states:
        training_step(state, Batch(_batch(0)), lines.append)
    fitted = states[0].init_scale
    assert 0.2 < fitted < 0.9
    line = f"step 1: encoder rows are {fitted:g} times the decoder rows"
    assert [line for line in lines if "encoder" in line][:2] == [
        f"{line}, which fits the first batch best",
        "step 1: encoder rows are 0.2 times the decoder rows",
    ]
    losses = [state.meter.facts()["loss"] for state in states]
    assert losses[0] < min(losses[1:])
    again = _state(allocation=rule, init_scale=fitted, accumulation=accumulation)
    training_step(again, Batch(_batch(0)))
    _assert_equal(_weights(again), _weights(states[0]))


def test_later_steps_and_runs_that_begin_with_an_sae_scale_nothing():
    for state in (_state(init="some/sae", init_scale="auto"), _state(init_scale="auto")):
        if state.config.init is None:
            state.step = 1
        lines = []
        training_step(state, Batch(_batch(0)), lines.append)
        assert lines == []
        assert state.init_scale is None


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_is_a_pass_over_the_batch_and_an_update(accumulation):
    state, composed = (_state(accumulation=accumulation) for _ in range(2))
    for step in range(6):
        done = training_step(state, Batch(_batch(step)))
        outcomes = [
            forward_backward(
                composed.shard,
                part.x,
                MESH,
                Selectors(composed.phases.selector),
                composed.mean,
                composed.variance,
                alpha_aux=0.0,
                share=1 / accumulation,
            )
            for part in micro_batches(Batch(_batch(step)), STREAMS, accumulation)
        ]
        composed.engine.update(joined_outcome(outcomes).gradients, done.learning_rate)
        _assert_equal(_weights(state), _weights(composed))


def test_the_rate_and_the_rule_of_each_step_are_returned_and_a_change_is_announced():
    state, lines = _state(steps=8, finetune_fc_from=0.5), []
    found = [training_step(state, Batch(_batch(step)), lines.append) for step in range(8)]
    rates = [state.config.optimizer.rate(step, 8, D_SAE) for step in range(8)]
    rules = ["mutual_choice"] * 4 + ["feature_choice"] * 4
    assert found == [StepSettings(rate, rule, K) for rate, rule in zip(rates, rules, strict=True)]
    _, line = lines
    assert line.startswith("step 5: Feature Choice begins with measured quotas")


def test_underused_features_are_measured_regularly_and_trained_from_then_on():
    state = _state(steps=7, auxiliary=AuxiliaryConfig(refresh_steps=3, dead_after_tokens=2 * BATCH))
    with torch.no_grad():
        state.shard.b_enc[5] = -100.0  # never fires
    measured_after = []
    steps_with_auxiliary_loss = []
    for step in range(7):
        underused, aux_loss = state.underused, state.meter.facts()["aux_loss"]
        training_step(state, Batch(_batch(step)))
        if state.underused is not underused:
            measured_after.append(state.step)
        if state.meter.facts()["aux_loss"] > aux_loss:
            steps_with_auxiliary_loss.append(state.step)
    assert measured_after == [3, 6, 7]  # every third step and the last one
    assert steps_with_auxiliary_loss == [4, 5, 6, 7]
    assert state.underused.members.nonzero().flatten().tolist() == [5]


def test_a_score_that_is_not_finite_is_reported_before_anything_is_changed():
    state = _state()
    training_step(state, Batch(_batch(0)))
    x, before = _batch(1), _weights(state)
    x[3, 2] = math.inf
    with pytest.raises(NonFiniteStep, match=f"{D_SAE} scores are not finite") as stopped:
        training_step(state, Batch(x))
    rate = state.config.optimizer.rate(1, STEPS, D_SAE)
    assert stopped.value.step == 2
    assert stopped.value.settings == StepSettings(rate, "mutual_choice", K)
    assert stopped.value.outcome is None
    assert state.step == 1
    _assert_equal(_weights(state), before)


def test_a_loss_that_is_not_finite_is_reported_before_the_update():
    state, trial = _state(), _state()
    selectors = Selectors(trial.phases.selector)
    outcome = forward_backward(trial.shard, _batch(0), MESH, selectors, trial.mean, trial.variance, alpha_aux=0.0)
    feature = int(outcome.matches.feature[0])
    with torch.no_grad():
        state.shard.W_dec[feature] = math.nan
    before = _weights(state)
    with pytest.raises(NonFiniteStep, match=r"^the loss is nan$") as stopped:
        training_step(state, Batch(_batch(0)))
    assert (stopped.value.step, stopped.value.settings.allocation) == (1, "mutual_choice")
    assert math.isnan(stopped.value.outcome.loss)
    assert torch.equal(stopped.value.outcome.matches.feature, outcome.matches.feature)
    for name in ("W_enc", "b_enc", "b_dec"):
        assert torch.equal(getattr(state.shard, name), before[name]), name
    assert not state.engine.tensors()["adam.step.W_enc"].any()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_norm_that_is_not_finite_is_reported_after_the_update(value):
    state = _state()
    message = r"^the gradient norm is (nan|inf) \(weights and moments are those after the update\)$"
    with broken_gradient(at_step=1, value=value):
        training_step(state, Batch(_batch(0)))
        with pytest.raises(NonFiniteStep, match=message) as stopped:
            training_step(state, Batch(_batch(1)))
    assert stopped.value.step == 2
    assert stopped.value.settings.allocation == "mutual_choice"
    assert math.isfinite(stopped.value.outcome.loss)
    assert state.step == 1
    assert state.engine.tensors()["adam.step.W_enc"] == 2
