"""What a run hands from part to part: a whole run, with the step and the end watched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from accelerate import Accelerator

from distsae.allocation import MutualSelector
from distsae.batches import BatchReader
from distsae.checkpoint import facts_of
from distsae.losses import AlarmConfig
from distsae.training import AuxiliaryConfig, CheckpointConfig, optimizer_step, run, train
from distsae.training.folder.unit_release import UnitRelease
from tests.training.sample_runs import config_of

BATCH = 256
K = 4
STEPS = 12
SWITCH = 8


@pytest.fixture(scope="module")
def watched(tiny_store, tmp_path_factory):
    """The configuration, the arguments of each step as they were then, and the state at the end."""
    config = config_of(
        tiny_store,
        tmp_path_factory.mktemp("runs") / "watched",
        steps=STEPS,
        finetune_fc_from=SWITCH / STEPS,
        quota_refresh=2,
        log_every=1,
        auxiliary=AuxiliaryConfig(
            alpha=0.07, rho=0.9, dead_after_tokens=500, window_tokens=2000, refresh_steps=2, k_per_k=3
        ),
    )
    steps, ends = [], []
    forward_backward, watched_of, end = optimizer_step.forward_backward, optimizer_step.watched, run.frozen_sae
    given = []

    def keep_selectors(selectors, mesh, cost):
        given.append(selectors)
        return watched_of(selectors, mesh, cost)

    def watch_step(shard, x, mesh, selectors, mean, variance, alpha_aux, share):
        outcome = forward_backward(shard, x, mesh, selectors, mean, variance, alpha_aux, share)
        auxiliary = given[-1].auxiliary
        allowed = None if auxiliary is None else auxiliary.allowed.clone()
        steps.append((alpha_aux, auxiliary, allowed, outcome))
        return outcome

    def watch_end(state, store, reader):
        ends.append(state)
        return end(state, store, reader)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizer_step, "watched", keep_selectors)
        patch.setattr(optimizer_step, "forward_backward", watch_step)
        patch.setattr(run, "frozen_sae", watch_end)
        train(config)
    return config, steps, ends[0]


def test_the_auxiliary_loss_gets_its_weight_budget_and_features(watched):
    from tests.training.sample_runs import metrics

    config, steps, _ = watched
    assert [alpha for alpha, *_ in steps] == [config.auxiliary.alpha] * STEPS
    lines = metrics(Path(config.out))
    used = 0
    for number, (_, auxiliary, allowed, _) in enumerate(steps):
        share = lines[number - 1]["aux_share"] if number else 0.0  # as measured at the end of the step before
        assert (auxiliary is not None) == (share > 0)
        if share:
            used += 1
            assert isinstance(auxiliary, MutualSelector)
            assert auxiliary.k == K * 3
            assert allowed is not None
            assert int(allowed.sum()) == round(share * config.sae.d_sae)
    assert used > 2


def test_thresholds_begin_anew_with_feature_choice(watched):
    thresholds = watched[2].thresholds
    after = 1 - 0.99 ** (STEPS - SWITCH)
    assert float(thresholds.weight.max()) == pytest.approx(after, rel=1e-9)


def test_the_rehearsal_counts_every_step(watched):
    statistics = watched[2].phases.rehearsal.statistics
    assert statistics.last_tokens == BATCH
    assert int(statistics.last_counts.sum()) == K * BATCH
    assert not (statistics.last_counts == watched[1][-1][3].matches.feature.bincount(minlength=256)).all()


@pytest.mark.parametrize("older", [False, True], ids=["now", "a checkpoint of before alarms were kept"])
def test_a_resumed_run_does_not_warn_again(older, tiny_store, tmp_path, capsys, monkeypatch):
    """The overlap is over its tiny limit from the first line on."""
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
    find = run.find_resume_point

    def find_older(*arguments):
        point = find(*arguments)
        del point.facts["alarms"]
        return point

    if older:
        monkeypatch.setattr(run, "find_resume_point", find_older)
    train(config)
    said = capsys.readouterr().err
    assert "resumed from" in said
    assert said.count("warning: step") == older  # which does not know that it was said


def test_nobody_reads_before_it_is_said_where_the_run_reads_on(tiny_store, tmp_path, monkeypatch):
    """One process says it for all: without a meeting behind that, the others might read what still counts as gone."""
    events = []

    def watch(owner, name):
        act = getattr(owner, name)

        def watched(*arguments, **named):
            events.append(name)
            return act(*arguments, **named)

        monkeypatch.setattr(owner, name, watched)

    watch(UnitRelease, "start_reading")
    watch(Accelerator, "wait_for_everyone")
    watch(BatchReader, "batch")
    train(config_of(tiny_store, tmp_path / "run", steps=2))
    first = events.index("start_reading")
    assert events[first : first + 3] == ["start_reading", "wait_for_everyone", "batch"]
