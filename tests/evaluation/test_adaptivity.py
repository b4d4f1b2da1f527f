import numpy as np
import pytest
import torch

from distsae.evaluation.adaptivity import features_per_token, in_shares, mean_features, spread


def test_features_per_token_counts_rows_without_matches():
    assert features_per_token(torch.tensor([0, 0, 2]), 4).tolist() == [2, 0, 1, 0]
    assert features_per_token(torch.tensor([], dtype=torch.int64), 2).tolist() == [0, 0]


def test_mean_and_spread_against_numpy():
    found = np.random.default_rng(0).integers(0, 50, 200).astype(float)
    sums = {
        "matches": np.array([found.sum()]),
        "matches_square": np.array([(found**2).sum()]),
        "rows": np.array([200.0]),
    }
    assert mean_features(sums)[0] == pytest.approx(found.mean())
    assert spread(sums)[0] == pytest.approx(found.std())


def test_equal_counts_have_no_spread():
    sums = {"matches": np.array([32.0 * 7]), "matches_square": np.array([32.0**2 * 7]), "rows": np.array([7.0])}
    assert spread(sums)[0] == 0


def test_shares_are_equal_in_order_and_skip_rows_without_a_number():
    loss = np.array([5.0, 1.0, np.nan, 3.0, 2.0, 4.0, 6.0])
    features = 10 * loss
    features[2] = 1000
    found = in_shares(features, loss, shares=3)
    assert found.order.tolist() == [1.5, 3.5, 5.5]
    assert found.mean.tolist() == [15, 35, 55]
    assert found.rows.tolist() == [2, 2, 2]
    assert (found.low <= found.mean).all()
    assert (found.mean <= found.high).all()


def test_integers_are_taken_as_they_are():
    found = in_shares(np.array([1, 2, 3, 4], np.int32), np.array([7, 7, 1, 9], np.int64), shares=2)
    assert found.mean.tolist() == [2.0, 3.0]  # equal rows keep their order: the third and first, then the second
    assert found.order.tolist() == [4.0, 8.0]


def test_fewer_rows_than_shares():
    assert in_shares(np.array([1.0, 2.0]), np.array([0.5, np.nan])).rows.tolist() == [1]
