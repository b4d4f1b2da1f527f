"""A run, with the arguments of its steps recorded: each part gets what the parts before it have found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from distsae.allocation import MutualSelector
from distsae.checkpoint import facts_of
from distsae.losses import AlarmConfig
from distsae.training import AuxiliaryConfig, CheckpointConfig, optimizer_step, run, train
from distsae.training.folder.resume import find_resume_point
from distsae.training.freezing.frozen_sae import frozen_sae
from distsae.training.step.forward_backward import forward_backward
from distsae.training.step.selection_cost import watched
from tests.training.sample_runs import config_of, metrics

BATCH = 256
K = 4
STEPS = 12
SWITCH = 8


@pytest.fixture(scope="module")
def recorded(tiny_store, tmp_path_factory):
    """The config of a run, the arguments and the outcome of each step, and the state at the end."""
    config = config_of(
        tiny_store,
        tmp_path_factory.mktemp("runs") / "recorded",
        steps=STEPS,
        finetune_fc_from=SWITCH / STEPS,
        quota_refresh=2,
        log_every=1,
        auxiliary=AuxiliaryConfig(
            alpha=0.07, rho=0.9, dead_after_tokens=500, window_tokens=2000, refresh_steps=2, k_per_k=3
        ),
    )
    steps = []
    ends = []
    selectors_of_steps = []

    def record_selectors(selectors, mesh, cost):
        selectors_of_steps.append(selectors)
        return watched(selectors, mesh, cost)

    def record_step(shard, x, mesh, selectors, mean, variance, alpha_aux, *rest):
        outcome = forward_backward(shard, x, mesh, selectors, mean, variance, alpha_aux, *rest)
        auxiliary = selectors_of_steps[-1].auxiliary
        allowed = None if auxiliary is None else auxiliary.allowed.clone()
        steps.append((alpha_aux, auxiliary, allowed, outcome))
        return outcome

    def record_end(state, store, reader):
        ends.append(state)
        return frozen_sae(state, store, reader)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizer_step, "watched", record_selectors)
        patch.setattr(optimizer_step, "forward_backward", record_step)
        patch.setattr(run, "frozen_sae", record_end)
        train(config)
    return config, steps, ends[0]


def test_the_auxiliary_loss_gets_its_weight_budget_and_features(recorded):
    config, steps, _ = recorded
    assert [alpha for alpha, *_ in steps] == [config.auxiliary.alpha] * STEPS
    lines = metrics(Path(config.out))
    used = 0
    for number, (_, auxiliary, allowed, _) in enumerate(steps):
        share = lines[number - 1]["aux_share"] if number else 0.0  # as measured after the step before
        assert (auxiliary is not None) == (share > 0)
        if share:
            used += 1
            assert isinstance(auxiliary, MutualSelector)
            assert auxiliary.k == K * 3
            assert allowed is not None
            assert int(allowed.sum()) == round(share * config.sae.d_sae)
    assert used > 2


def test_thresholds_start_anew_with_feature_choice(recorded):
    thresholds = recorded[2].thresholds
    after = 1 - 0.99 ** (STEPS - SWITCH)
    assert float(thresholds.weight.max()) == pytest.approx(after, rel=1e-9)


def test_the_rehearsal_counts_every_step(recorded):
    statistics = recorded[2].phases.rehearsal.statistics
    assert statistics.last_tokens == BATCH
    assert int(statistics.last_counts.sum()) == K * BATCH
    assert not (statistics.last_counts == recorded[1][-1][3].matches.feature.bincount(minlength=256)).all()


@pytest.mark.parametrize("older", [False, True], ids=["new checkpoint", "older checkpoint without alarms"])
def test_a_resumed_run_does_not_warn_again(older, tiny_store, tmp_path, capsys, monkeypatch):
    """The overlap is above its tiny limit from the first line on."""
    out = tmp_path / "run"
    config = config_of(
        tiny_store,
        out,
        steps=4,
        log_every=1,
        alarms=AlarmConfig(token_overlap=1e-6),
        checkpoint=CheckpointConfig(every=2, keep_last=3),
    )
    train(config)
    assert capsys.readouterr().err.count("warning: step") == 1
    shutil.rmtree(out / "checkpoints" / "step-00000004")
    shutil.rmtree(out / "sae")
    assert facts_of(out / "checkpoints" / "step-00000002")[1]["alarms"] == ["token_overlap"]

    def find_older(*arguments):
        point = find_resume_point(*arguments)
        del point.facts["alarms"]
        return point

    if older:
        monkeypatch.setattr(run, "find_resume_point", find_older)
    train(config)
    printed = capsys.readouterr().err
    assert "resumed from" in printed
    assert printed.count("warning: step") == older
