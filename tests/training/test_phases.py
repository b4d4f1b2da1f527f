"""The rule of each step, and the quotas of Feature Choice."""

import re

import pytest
import torch

from distsae.allocation import FeatureSelector, Matches, MutualSelector, TokenSelector
from distsae.collective import Solo
from distsae.errors import WrongInput
from distsae.losses import FiringStatistics
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import SizeConfig, TrainConfig
from distsae.training.phases import Phases, require_every_phase
from tests.distributed.processes import run_on_mesh

MESH = build_mesh(MeshConfig(), 1, "cpu")
D_SAE = 64
K = 4
BATCH = 64


def _phases(mesh=MESH, steps=20, **changes):
    changes = {"sae": SizeConfig(d_sae=D_SAE, k=K), "quotas": "zipf", "quotas_hold": "every_batch", **changes}
    config = TrainConfig(store="s", out="o", batch_tokens=BATCH, **changes)
    return Phases(config, steps, mesh, torch.device("cpu"))


def _statistics(mesh=MESH):
    """Returns firing statistics in which densities rise with the feature, as 1 / (D_SAE + 2 - feature)."""
    features = mesh.features(D_SAE)
    statistics = FiringStatistics(len(features), window_tokens=1 << 40, dead_after_tokens=1000)
    counts = (4000 / (torch.arange(D_SAE) + 3)).long().flip(0)[features.start : features.stop]
    # Every data rank has the counts of the whole batch already.
    statistics.update(torch.arange(len(features)).repeat_interleave(counts), 10_000, Solo())
    return statistics


@pytest.mark.parametrize(
    ("allocation", "kind"),
    [("token_choice", TokenSelector), ("mutual_choice", MutualSelector), ("feature_choice", FeatureSelector)],
)
def test_one_rule_throughout(allocation, kind):
    phases = _phases(allocation=allocation)
    for step in range(20):
        line = phases.prepare(step, _statistics())
        assert (line is not None) == (allocation == "feature_choice" and step == 0)
        assert isinstance(phases.selector, kind)
        assert phases.allocation(step) == allocation


@pytest.mark.parametrize("share", [0.05, 0.5, 0.7])
def test_feature_choice_takes_over_at_its_share_of_the_steps(share):
    phases = _phases(finetune_fc_from=share)
    (switch,) = [step for step in range(20) if phases.prepare(step, _statistics())]
    assert switch == round(share * 20)
    assert phases.allocation(switch - 1) == "mutual_choice"
    assert phases.allocation(switch) == "feature_choice"
    assert isinstance(phases.selector, FeatureSelector)


def test_zipf_quotas_follow_the_measured_densities():
    phases = _phases(finetune_fc_from=0.5)
    line = phases.prepare(10, _statistics())
    assert "step 11: Feature Choice begins with Zipf quotas, s 1" in line
    assert "fitted, R^2 0.99" in line or "fitted, R^2 1" in line
    quotas = phases.credit.quota_per_token
    assert quotas.sum().item() == pytest.approx(K)
    assert (quotas.diff() > 0).all()  # denser features, here the later ones, have larger quotas
    assert (quotas[-1] / quotas[0]).item() == pytest.approx((D_SAE + 2) / 3, rel=0.15)


def test_given_parameters_and_defaults_of_the_zipf_quotas():
    phases = _phases(finetune_fc_from=0.5, zipf_s=2.0, zipf_q=7.0)
    assert "s 2, q 7 (given)" in phases.prepare(10, _statistics())
    empty = FiringStatistics(D_SAE, 1000, 1000)
    assert "s 1, q 1 (default)" in _phases(allocation="feature_choice").prepare(0, empty)
    uniform = _phases(allocation="feature_choice", quotas="uniform")
    uniform.prepare(0, empty)
    assert torch.equal(uniform.credit.quota_per_token, torch.full((D_SAE,), K / D_SAE, dtype=torch.float64))


def test_measured_quotas_are_the_densities_or_the_curve_if_there_are_none():
    phases = _phases(finetune_fc_from=0.5, quotas="measured")
    statistics = _statistics()
    line = phases.prepare(10, statistics)
    assert "Feature Choice begins with measured quotas, at least 0.2 of the mean quota each" in line
    quotas = phases.credit.quota_per_token
    assert quotas.sum().item() == pytest.approx(K)
    density = statistics.density()
    torch.testing.assert_close(quotas, density * (K / density.sum()), rtol=0.05, atol=0)
    empty = FiringStatistics(D_SAE, 1000, 1000)
    begun = _phases(allocation="feature_choice", quotas="measured")
    assert "begins with Zipf quotas, s 1, q 1 (default)" in begun.prepare(0, empty)


@pytest.mark.parametrize(
    ("given", "description"),
    [
        ({"zipf_s": 2.0}, r"s 2 \(given\), q \S+ \(fitted, R"),
        ({"zipf_q": 7.0}, r"s \S+ \(fitted, R\^2 \S+\), q 7 \(given\)"),
    ],
)
def test_the_source_of_each_parameter_is_named(given, description):
    assert re.search(description, _phases(finetune_fc_from=0.5, **given).prepare(10, _statistics()))


def test_every_batch_is_granted_its_whole_budget():
    phases = _phases(finetune_fc_from=0.5)
    for step in range(10, 20):
        phases.prepare(step, _statistics())
        phases.grant_quotas(BATCH)
        assert int(phases.selector._quotas.sum()) == K * BATCH


@pytest.mark.parametrize("stop", [9, 10, 11, 15])
def test_restored_phases_continue_with_the_same_quotas(stop):
    straight, grants = _phases(finetune_fc_from=0.5), []
    saved = {}
    for step in range(20):
        if step == stop:
            saved = {name: tensor.clone() for name, tensor in straight.tensors().items()}
        straight.prepare(step, _statistics())
        straight.grant_quotas(BATCH)
        grants.append(getattr(straight.selector, "_quotas", None))
    resumed = _phases(finetune_fc_from=0.5)
    resumed.restore(stop, 10, _statistics())
    live = resumed.tensors()
    assert live.keys() == saved.keys()
    for name, tensor in saved.items():
        live[name].copy_(tensor)
    for step in range(stop, 20):
        resumed.prepare(step, _statistics())
        resumed.grant_quotas(BATCH)
        if step >= 10:
            assert torch.equal(resumed.selector._quotas, grants[step])


def _observe(phases, order, mesh=MESH):
    """Reports matches of the rehearsal in which feature `order[i]` has density rank `i + 1`."""
    features = mesh.features(D_SAE)
    counts = torch.empty(D_SAE, dtype=torch.long)
    counts[order] = (40 / (torch.arange(D_SAE) + 3)).ceil().long()
    feature = torch.arange(len(features)).repeat_interleave(counts[features.start : features.stop])
    phases.observe([Matches(torch.zeros_like(feature), feature, torch.ones(len(feature)))], BATCH)


@pytest.mark.parametrize("given", [{}, {"zipf_s": 1.5, "zipf_q": 2.0}], ids=["fitted", "given"])
def test_ranks_follow_the_densities_of_the_rehearsal(given):
    """At step 10 rare features become frequent, which the densities under Feature Choice would never show."""
    phases = _phases(steps=40, allocation="feature_choice", quota_refresh=5, **given)
    before, after = torch.arange(D_SAE), torch.arange(D_SAE).flip(0)
    lines = {}
    quotas = {}
    credits = {}
    for step in range(40):
        line = phases.prepare(step, FiringStatistics(D_SAE, 60, 1000))
        phases.grant_quotas(BATCH)
        if line:
            lines[step], quotas[step] = line, phases.credit.quota_per_token.clone()
        credits[step] = phases.credit.credit.clone()
        assert int(phases.selector._quotas.sum()) == K * BATCH  # in the step of a refresh as well
        _observe(phases, before if step < 10 else after)
    assert list(lines) == [0, 5, 10, 15, 20, 25, 30, 35]
    assert "step 6: features ranked again, Zipf quotas" in lines[5]
    assert ("s 1.5, q 2 (given)" if given else "fitted, R^2") in lines[5]
    assert (quotas[10].diff() <= 0).all()
    assert quotas[10][0] > 5 * quotas[10][-1]
    assert (quotas[35].diff() >= 0).all()  # the ranks are reversed
    torch.testing.assert_close(quotas[35].flip(0), quotas[10], rtol=0.1, atol=0)
    for found in quotas.values():
        assert float(found.sum()) == pytest.approx(K)
    assert credits[5].abs().sum() > 0  # a refresh keeps the credit
    assert not torch.equal(credits[4], credits[5])


def test_without_a_refresh_there_is_no_observer_and_quotas_stay():
    phases = _phases(allocation="feature_choice")
    for step in range(20):
        phases.prepare(step, _statistics())
        assert list(phases.observers) == []
        phases.observe([], BATCH)
        if step == 0:
            quotas = phases.credit.quota_per_token.clone()
    assert torch.equal(phases.credit.quota_per_token, quotas)


def test_the_rehearsal_starts_with_the_densities_of_mutual_choice():
    phases = _phases(finetune_fc_from=0.5, quota_refresh=3)
    for step in range(10):
        phases.prepare(step, _statistics())
        assert list(phases.observers) == []  # Mutual Choice is the rule itself
    phases.prepare(10, _statistics())
    (observer,) = phases.observers
    assert isinstance(observer, MutualSelector)
    assert torch.equal(phases.rehearsal.statistics.density(), _statistics().density())


def _refreshed(mesh):
    phases = _phases(mesh, finetune_fc_from=0.5, quota_refresh=3)
    lines = []
    for step in range(10, 17):
        lines.append(phases.prepare(step, _statistics(mesh)))
        _observe(phases, torch.randperm(D_SAE, generator=torch.Generator().manual_seed(step)), mesh)
    return [line for line in lines if line], phases.credit.quota_per_token, phases.credit.credit


def test_a_mesh_ranks_features_anew_as_one_process_does():
    (alone,) = run_on_mesh(_refreshed, (1, 1))
    assert len(alone[0]) == 3
    for shape in ((1, 2), (1, 3)):
        ranks = run_on_mesh(_refreshed, shape)
        assert all(rank[0] == alone[0] for rank in ranks)
        for index in (1, 2):
            assert torch.equal(torch.cat([rank[index] for rank in ranks]), alone[index])


def _granted(mesh):
    phases = _phases(mesh, finetune_fc_from=0.5)
    return phases.prepare(10, _statistics(mesh)), phases.selector._quotas


def test_a_mesh_grants_what_one_process_does():
    (line, alone), *_ = run_on_mesh(_granted, (1, 1))
    for shape in ((1, 2), (1, 3), (1, 4), (2, 2)):
        ranks = run_on_mesh(_granted, shape)
        assert {rank[0] for rank in ranks} == {line}
        assert torch.equal(torch.cat([rank[1] for rank in ranks[: shape[1]]]), alone)


@pytest.mark.parametrize(
    ("allocation", "expected"), [("token_choice", [8, 7, 5, 4]), ("mutual_choice", [8, 20 / 3, 16 / 3, 4])]
)
def test_the_budget_falls_from_k_start_to_k(allocation, expected):
    phases = _phases(allocation=allocation, sae=SizeConfig(d_sae=D_SAE, k=K, k_start=8))  # a fifth of 20 steps
    for step in range(20):
        phases.prepare(step, _statistics())
        k = expected[min(step, 3)]
        assert phases.k == pytest.approx(k)
        assert phases.selector.k == phases.fresh_selector().k == phases.k
        assert phases.budget(BATCH) == round(k * BATCH)


def test_feature_choice_keeps_k_when_more_steps_would_still_anneal_it():
    phases = _phases(steps=100, sae=SizeConfig(d_sae=D_SAE, k=K, k_start=8, k_anneal_share=0.5), finetune_fc_from=0.5)
    phases.restore(8, 7, _statistics())  # at step 8 of a run of 14 steps, in Feature Choice
    phases.prepare(8, _statistics())
    phases.grant_quotas(BATCH)
    assert (phases.k, phases.budget(BATCH), int(phases.selector._quotas.sum())) == (K, K * BATCH, K * BATCH)


def test_another_number_of_steps_moves_a_switch_in_the_future_only():
    longer = _phases(finetune_fc_from=0.5)  # of 20 steps, so that a switch in the future is at 10
    longer.restore(8, 6, _statistics())
    assert longer.switch_step == 6
    ahead = _phases(finetune_fc_from=0.5)
    ahead.restore(4, 30, _statistics())
    assert ahead.switch_step == 10
    overdue = _phases(finetune_fc_from=0.5)
    overdue.restore(14, 30, _statistics())
    assert overdue.switch_step == 14


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"finetune_fc_from": 0.96}, "`finetune_fc_from` .* after step 10 of 10"),
        ({"finetune_fc_from": 0.04}, "`finetune_fc_from` .* after step 0 of 10"),
        ({"log_every": 1, "evaluate_every": 11}, "`evaluate_every` .* got 10"),
        ({"sae": SizeConfig(d_sae=D_SAE, k=K, k_start=2 * K, k_anneal_share=0.1)}, "`sae.k_anneal_share` .* 10 steps"),
    ],
)
def test_phases_that_would_never_begin_are_refused(changes, named):
    def config(changes):
        values = {"store": "s", "out": "o", "allocation": "mutual_choice", "sae": SizeConfig(d_sae=D_SAE, k=K)}
        return TrainConfig(**values | changes)

    with pytest.raises(WrongInput, match=named):
        require_every_phase(config(changes), 10)
    require_every_phase(config(changes), 200)
    require_every_phase(config({}), 1)
