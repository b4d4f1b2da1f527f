"""The two signs of a collapse, counted by hand, and one warning for each rise."""

import itertools

import pytest
import torch

from distsae.collective import Solo
from distsae.errors import WrongInput
from distsae.losses import AlarmConfig, CollapseAlarms, Concentration, FiringStatistics
from tests.distributed.processes import run_on_mesh

FEATURES, TOKENS = 40, 12


def _matches(seed=0, share=0.3):
    """Returns which token has which feature, bool `[TOKENS, FEATURES]`."""
    return torch.rand(TOKENS, FEATURES, generator=torch.Generator().manual_seed(seed)) < share


def _statistics(matches, mesh=None):
    features = range(FEATURES) if mesh is None else mesh.features(FEATURES)
    statistics = FiringStatistics(len(features), window_tokens=1000, dead_after_tokens=1000)
    rows = matches if mesh is None else matches[mesh.data.rank :: mesh.data.size]
    feature = rows[:, features.start : features.stop].nonzero()[:, 1]
    statistics.update(feature, TOKENS, Solo() if mesh is None else mesh.data)
    return statistics


@pytest.mark.parametrize("seed", range(3))
def test_overlap_is_the_mean_over_pairs_of_tokens(seed):
    matches = _matches(seed)
    common = [int((a & b).sum()) for a, b in itertools.combinations(matches, 2)]
    by_hand = sum(common) / len(common) / float(matches.sum(1).double().mean())
    found = Concentration.measure(_statistics(matches), Solo())
    assert found.token_overlap == pytest.approx(by_hand, rel=1e-12)


def test_overlap_of_tokens_that_share_everything_or_nothing():
    same = torch.zeros(TOKENS, FEATURES, dtype=torch.bool)
    same[:, :5] = True
    assert Concentration.measure(_statistics(same), Solo()).token_overlap == 1.0
    apart = torch.eye(FEATURES, dtype=torch.bool)[:TOKENS]
    assert Concentration.measure(_statistics(apart), Solo()).token_overlap == 0.0


def test_unknown_before_anything_has_fired():
    statistics = FiringStatistics(FEATURES, 1000, 1000)
    assert Concentration.measure(statistics, Solo()) == Concentration(None, None)
    statistics.update(torch.zeros(0, dtype=torch.long), TOKENS, Solo())
    assert Concentration.measure(statistics, Solo()) == Concentration(None, None)
    statistics.update(torch.tensor([3]), 1, Solo())  # one token has no pair
    assert Concentration.measure(statistics, Solo()).token_overlap is None


def test_overlap_is_of_the_last_batch_and_the_share_of_the_window():
    statistics = _statistics(_matches())
    statistics.update(torch.zeros(TOKENS, dtype=torch.long), TOKENS, Solo())
    found = Concentration.measure(statistics, Solo())
    assert found.token_overlap == 1.0
    assert found.top_feature_share < 0.1


def _measure(mesh):
    return Concentration.measure(_statistics(_matches(), mesh), mesh.feature)


def test_every_mesh_measures_the_same():
    (alone,) = run_on_mesh(_measure, (1, 1))
    assert 0 < alone.token_overlap < 1
    for shape in ((1, 2), (2, 1), (1, 3), (2, 2)):
        assert set(run_on_mesh(_measure, shape)) == {alone}


def test_a_warning_when_a_number_rises_and_again_only_after_it_fell():
    alarms = CollapseAlarms(AlarmConfig(top_feature_share=0.5, token_overlap=0.25))
    warnings = [
        len(alarms.check(step, Concentration(share, overlap)))
        for step, (share, overlap) in enumerate(
            [
                (None, None),
                (0.5, 0.25),
                (0.6, 0.1),
                (0.7, 0.3),
                (0.7, 0.4),
                (0.4, 0.4),
                (0.6, 0.4),
                (None, None),
                (0.9, 0.9),
            ]
        )
    ]
    assert warnings == [0, 0, 1, 1, 0, 0, 1, 0, 0]


def test_a_resumed_run_does_not_warn_again():
    limits = AlarmConfig()
    high = Concentration(0.1, 0.75)
    alarms = CollapseAlarms(limits)
    resumed = CollapseAlarms(limits)
    assert alarms.facts() == []
    assert len(alarms.check(1, high)) == 1
    assert alarms.facts() == ["token_overlap"]
    resumed.restore(alarms.facts())
    assert resumed.check(2, high) == []
    assert resumed.check(3, Concentration(0.1, 0.1)) == []
    assert len(resumed.check(4, high)) == 1


def test_a_warning_names_the_step_the_number_its_limit_and_a_remedy():
    alarms = CollapseAlarms(AlarmConfig())
    (line,) = alarms.check(120, Concentration(0.1, 0.75))
    assert "\n" not in line
    for part in (
        "warning: step 120:",
        "token_overlap 0.750",
        "above its limit 0.3",
        "in common",
        "lower `optimizer.lr`",
    ):
        assert part in line
    (line,) = alarms.check(130, Concentration(0.97, 0.75))
    assert "top_feature_share 0.970" in line
    assert "densest 1%" in line


def test_limits_are_shares():
    for name in ("top_feature_share", "token_overlap"):
        for value in (0.0, 1.5, -1.0):
            with pytest.raises(WrongInput, match=rf"`alarms.{name}` \(={value}\) must be in \(0, 1\]"):
                AlarmConfig(**{name: value})
