"""Against the plain matrices of features times features."""

import numpy as np
import pytest
import torch

from distsae.reporting.features import neighbours
from distsae.reporting.features.neighbours import LEAST_TOGETHER, Coactivation, nearest_decoders


@pytest.mark.parametrize("elements", [1 << 23, 100])
def test_nearest_decoders(elements, monkeypatch):
    monkeypatch.setattr(neighbours, "_ELEMENTS", elements)
    W_dec = torch.randint(-1, 2, (40, 4), generator=torch.Generator().manual_seed(0)).float()
    W_dec[W_dec.abs().sum(1) == 0] = 1
    found, cosines = nearest_decoders(W_dec, 5, 33, 6)
    units = W_dec / W_dec.norm(dim=1, keepdim=True)
    for feature in range(5, 33):
        cosine = {other: float((units[other] * units[feature]).sum()) for other in range(40) if other != feature}
        shown = found[feature - 5].tolist()
        assert len(set(shown)) == 6
        assert feature not in shown
        np.testing.assert_allclose(cosines[feature - 5], [cosine[other] for other in shown], atol=1e-6)
        assert np.all(np.diff(cosines[feature - 5]) <= 0)
        np.testing.assert_allclose(cosines[feature - 5], sorted(cosine.values(), reverse=True)[:6], atol=1e-6)


@pytest.mark.parametrize("elements", [1 << 23, 60])
def test_coactivation(elements, monkeypatch):
    monkeypatch.setattr(neighbours, "_ELEMENTS", elements)
    rng = np.random.default_rng(0)
    fires = rng.random((200, 30)) < rng.random(30) ** 3
    fires[:, 1] = fires[:, 0]  # a twin
    fires[:, 2] = True  # fires on every row
    fires[:, 3] = False
    row, feature = np.nonzero(fires)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.corrcoef(fires.T.astype(float))
    together = fires.T.astype(int) @ fires.astype(int)
    index, correlation, both = Coactivation(200, row * 7 + 3, feature, 30).correlated(0, 30, 5)
    for f in range(30):
        candidates = [
            other
            for other in range(30)
            if other != f and together[f, other] >= LEAST_TOGETHER and np.nan_to_num(expected[f, other]) > 1e-9
        ]
        ranked = sorted(candidates, key=lambda other: (-round(expected[f, other], 9), other))[:5]
        assert index[f].tolist() == ranked + [-1] * (5 - len(ranked))
        np.testing.assert_allclose(correlation[f, : len(ranked)], expected[f, ranked], atol=1e-12)
        assert both[f, : len(ranked)].tolist() == [together[f, other] for other in ranked]


def test_rows_without_matches_count():
    """On rows of silence nothing fires, which makes two features that fire together more alike."""
    row, feature = np.asarray([0, 0, 1, 1, 2, 2]), np.asarray([0, 1, 0, 1, 0, 1])
    _, correlation, _ = Coactivation(4, row, feature, 2).correlated(0, 1, 1)
    assert correlation.tolist() == [[1.0]]
    _, none, _ = Coactivation(3, row, feature, 2).correlated(0, 1, 1)
    assert none.tolist() == [[0.0]]


def test_an_empty_sample():
    empty = np.empty(0, np.int64)
    index, _, _ = Coactivation(0, empty, empty, 5).correlated(1, 4, 2)
    assert index.tolist() == [[-1, -1]] * 3
