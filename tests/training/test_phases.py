"""Which rule a step uses, and what Feature Choice begins with."""

import re

import pytest
import torch

from distsae.allocation import FeatureSelector, Matches, MutualSelector, TokenSelector
from distsae.losses import FiringStatistics
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import SizeConfig, TrainConfig
from distsae.training.phases import Phases
from tests.distributed.processes import run_on_mesh

MESH = build_mesh(MeshConfig(), 1, "cpu")
D_SAE = 64
K = 4
BATCH = 64


def _phases(mesh=MESH, steps=20, **changes):
    changes = {"sae": SizeConfig(d_sae=D_SAE, k=K), **changes}
    config = TrainConfig(store="s", out="o", batch_tokens=BATCH, **changes)
    return Phases(config, steps, mesh, torch.device("cpu"))


def _statistics(mesh=MESH):
    """Feature j fires about (j + 3)^-1, but feature order is reversed: the densest is the last."""
    statistics = FiringStatistics(len(mesh.features(D_SAE)), window_tokens=1 << 40, dead_after_tokens=1000)
    counts = (4000 / (torch.arange(D_SAE) + 3)).long().flip(0)
    mine = counts[mesh.features(D_SAE).start : mesh.features(D_SAE).stop]
    statistics.update(
        torch.arange(len(mine)).repeat_interleave(mine), 10_000, mesh.data if mesh.data.size == 1 else MESH.data
    )
    return statistics


@pytest.mark.parametrize(
    ("allocation", "kind"),
    [("token_choice", TokenSelector), ("mutual_choice", MutualSelector), ("feature_choice", FeatureSelector)],
)
def test_one_rule_from_start_to_end(allocation, kind):
    phases = _phases(allocation=allocation)
    for step in range(20):
        line = phases.prepare(step, _statistics())
        assert (line is not None) == (allocation == "feature_choice" and step == 0)
        assert isinstance(phases.selector, kind)
        assert phases.allocation(step) == allocation


@pytest.mark.parametrize("share", [0.05, 0.5, 0.7])
def test_feature_choice_takes_over_at_its_share_of_the_steps(share):
    phases = _phases(finetune_fc_from=share)
    begun = [step for step in range(20) if phases.prepare(step, _statistics())]
    assert begun == [round(share * 20)]
    assert phases.allocation(begun[0] - 1) == "mutual_choice"
    assert phases.allocation(begun[0]) == "feature_choice"
    assert isinstance(phases.selector, FeatureSelector)


def test_zipf_quotas_follow_the_measured_densities():
    phases = _phases(finetune_fc_from=0.5)
    line = phases.prepare(10, _statistics())
    assert "step 11: Feature Choice begins with Zipf quotas, s 1" in line
    assert "fitted, R^2 0.99" in line or "fitted, R^2 1" in line
    quotas = phases.credit.quota_per_token
    assert quotas.sum().item() == pytest.approx(K)
    assert (quotas.diff() > 0).all()  # denser features, here the later ones, are owed more
    assert (quotas[-1] / quotas[0]).item() == pytest.approx((D_SAE + 2) / 3, rel=0.15)


def test_given_parameters_and_defaults_of_the_zipf_quotas():
    phases = _phases(finetune_fc_from=0.5, zipf_s=2.0, zipf_q=7.0)
    assert "s 2, q 7 (given)" in phases.prepare(10, _statistics())
    cold = _phases(allocation="feature_choice")  # nothing has fired: the documented defaults
    empty = FiringStatistics(D_SAE, 1000, 1000)
    assert "s 1, q 1 (default)" in cold.prepare(0, empty)
    uniform = _phases(allocation="feature_choice", quotas="uniform")
    uniform.prepare(0, empty)
    assert torch.equal(uniform.credit.quota_per_token, torch.full((D_SAE,), K / D_SAE, dtype=torch.float64))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"zipf_s": 2.0}, r"s 2 \(given\), q \S+ \(fitted, R"),
        ({"zipf_q": 7.0}, r"s \S+ \(fitted, R\^2 \S+\), q 7 \(given\)"),
    ],
)
def test_the_source_of_each_parameter_is_named(given, said):
    assert re.search(said, _phases(finetune_fc_from=0.5, **given).prepare(10, _statistics()))


def test_every_batch_is_granted_its_whole_budget():
    phases = _phases(finetune_fc_from=0.5)
    for step in range(10, 20):
        phases.prepare(step, _statistics())
        phases.grant(BATCH)
        assert int(phases.selector._quotas.sum()) == K * BATCH


@pytest.mark.parametrize("stop", [9, 10, 11, 15])
def test_restored_phases_go_on_with_the_same_quotas(stop):
    straight, grants = _phases(finetune_fc_from=0.5), []
    state = {}
    for step in range(20):
        if step == stop:
            state = {name: tensor.clone() for name, tensor in straight.tensors().items()}
        straight.prepare(step, _statistics())
        straight.grant(BATCH)
        grants.append(getattr(straight.selector, "_quotas", None))
    resumed = _phases(finetune_fc_from=0.5)
    resumed.restore(stop, 10, _statistics())
    live = resumed.tensors()
    assert live.keys() == state.keys()
    for name, tensor in state.items():
        live[name].copy_(tensor)
    for step in range(stop, 20):
        resumed.prepare(step, _statistics())
        resumed.grant(BATCH)
        if step >= 10:
            assert torch.equal(resumed.selector._quotas, grants[step])


def _frequencies(phases, order, tokens=BATCH, mesh=MESH):
    """Mutual Choice would now give feature `order[i]` the frequency of rank `i + 1`."""
    counts = torch.empty(D_SAE, dtype=torch.long)
    counts[order] = (40 / (torch.arange(D_SAE) + 3)).ceil().long()
    mine = counts[mesh.features(D_SAE).start : mesh.features(D_SAE).stop]
    feature = torch.arange(len(mine)).repeat_interleave(mine)
    phases.observe([Matches(torch.zeros_like(feature), feature, torch.ones(len(feature)))])


@pytest.mark.parametrize("given", [{}, {"zipf_s": 1.5, "zipf_q": 2.0}], ids=["fitted", "given"])
def test_ranks_follow_what_mutual_choice_would_do_now(given):
    """The data change at step 10: rare features become frequent. Statistics of Feature Choice would never show it."""
    phases = _phases(steps=40, allocation="feature_choice", quota_refresh=5, **given)
    before, after = torch.arange(D_SAE), torch.arange(D_SAE).flip(0)
    lines = {}
    quotas = {}
    credits = {}
    for step in range(40):
        line = phases.prepare(step, FiringStatistics(D_SAE, 60, 1000))
        phases.grant(BATCH)
        if line:
            lines[step], quotas[step] = line, phases.credit.quota_per_token.clone()
        credits[step] = phases.credit.credit.clone()
        assert int(phases.selector._quotas.sum()) == K * BATCH  # the budget, also in the step of a refresh
        _frequencies(phases, before if step < 10 else after)
    assert list(lines) == [0, 5, 10, 15, 20, 25, 30, 35]
    assert "step 6: features ranked again, Zipf quotas" in lines[5]
    assert ("s 1.5, q 2 (given)" if given else "fitted, R^2") in lines[5]
    assert (quotas[10].diff() <= 0).all()
    assert quotas[10][0] > 5 * quotas[10][-1]
    assert (quotas[35].diff() >= 0).all()  # the ranks have turned round
    torch.testing.assert_close(quotas[35].flip(0), quotas[10], rtol=0.1, atol=0)
    for found in quotas.values():
        assert float(found.sum()) == pytest.approx(K)
    assert credits[5].abs().sum() > 0  # kept, not begun anew
    assert not torch.equal(credits[4], credits[5])


def test_without_a_refresh_nobody_watches_and_quotas_stay():
    phases = _phases(allocation="feature_choice")
    for step in range(20):
        phases.prepare(step, _statistics())
        assert list(phases.observers) == []
        phases.observe([])
        if step == 0:
            quotas = phases.credit.quota_per_token.clone()
    assert torch.equal(phases.credit.quota_per_token, quotas)


def test_the_rehearsal_goes_on_from_the_densities_of_mutual_choice():
    phases = _phases(finetune_fc_from=0.5, quota_refresh=3)
    for step in range(10):
        phases.prepare(step, _statistics())
        assert list(phases.observers) == []  # Mutual Choice itself rules
    phases.prepare(10, _statistics())
    (observer,) = phases.observers
    assert isinstance(observer, MutualSelector)
    assert torch.equal(phases.rehearsal.statistics.density(), _statistics().density())


def _refreshed(mesh):
    phases = _phases(mesh, finetune_fc_from=0.5, quota_refresh=3)
    lines = []
    for step in range(10, 17):
        lines.append(phases.prepare(step, _statistics(mesh)))
        _frequencies(phases, torch.randperm(D_SAE, generator=torch.Generator().manual_seed(step)), mesh=mesh)
    return [line for line in lines if line], phases.credit.quota_per_token, phases.credit.credit


def test_a_mesh_ranks_again_as_one_process_does():
    (alone,) = run_on_mesh(_refreshed, (1, 1))
    assert len(alone[0]) == 3
    for shape in ((1, 2), (1, 3)):
        ranks = run_on_mesh(_refreshed, shape)
        assert all(rank[0] == alone[0] for rank in ranks)
        for place in (1, 2):
            assert torch.equal(torch.cat([rank[place] for rank in ranks]), alone[place])


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
        assert phases.budget == round(k * BATCH)


def test_feature_choice_keeps_k_even_if_more_steps_would_still_anneal_it():
    phases = _phases(steps=100, sae=SizeConfig(d_sae=D_SAE, k=K, k_start=8, k_anneal_share=0.5), finetune_fc_from=0.5)
    phases.restore(8, 7, _statistics())  # of a run of 14 steps, which has begun with Feature Choice
    phases.prepare(8, _statistics())
    phases.grant(BATCH)
    assert (phases.k, phases.budget, int(phases.selector._quotas.sum())) == (K, K * BATCH, K * BATCH)


def test_another_number_of_steps_moves_a_switch_ahead_but_not_one_behind():
    longer = _phases(finetune_fc_from=0.5)  # of 20 steps: the switch would be at 10
    longer.restore(8, 6, _statistics())
    assert longer.switch_step == 6
    ahead = _phases(finetune_fc_from=0.5)
    ahead.restore(4, 30, _statistics())
    assert ahead.switch_step == 10
    overdue = _phases(finetune_fc_from=0.5)
    overdue.restore(14, 30, _statistics())
    assert overdue.switch_step == 14
