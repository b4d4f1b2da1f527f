import numpy as np
import pytest
import torch

from distsae.evaluation.adaptivity import by_loss, features_per_token, mean_features, rank_correlation, spread


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


def test_bins_hold_equal_shares_in_order_of_loss_and_skip_rows_without_one():
    loss = np.array([5.0, 1.0, np.nan, 3.0, 2.0, 4.0, 6.0])
    features = 10 * loss
    features[2] = 1000
    bins = by_loss(features, loss, bins=3)
    assert bins.loss.tolist() == [1.5, 3.5, 5.5]
    assert bins.mean.tolist() == [15, 35, 55]
    assert bins.rows.tolist() == [2, 2, 2]
    assert (bins.low <= bins.mean).all()
    assert (bins.mean <= bins.high).all()


def test_fewer_rows_than_bins():
    assert by_loss(np.array([1.0, 2.0]), np.array([0.5, np.nan])).rows.tolist() == [1]


def test_rank_correlation_sees_the_sign():
    loss = np.random.default_rng(0).normal(size=100)
    assert rank_correlation(np.exp(loss), loss) == pytest.approx(1)
    assert rank_correlation(-loss, loss) == pytest.approx(-1)
    assert np.isnan(rank_correlation(np.ones(100), loss))
