import numpy as np
import pytest
import torch

from distsae.language_model import OutputHead
from distsae.reporting.features import logit_tables as module
from distsae.reporting.features.logit_tables import HISTOGRAM_BARS, logit_tables


@pytest.mark.parametrize("elements", [1 << 23, 40])
def test_tables_against_one_product(elements, monkeypatch):
    monkeypatch.setattr(module, "_ELEMENTS", elements)
    generator = torch.Generator().manual_seed(0)
    head = OutputHead(
        gain=torch.rand(6, generator=generator), centres=True, unembedding=torch.randn(20, 6, generator=generator)
    )
    W_dec = torch.randn(9, 6, generator=generator)
    effects = ((W_dec - W_dec.mean(1, keepdim=True)) * head.gain @ head.unembedding.T)[:, :17].numpy()
    found = logit_tables(head, W_dec, 4, vocabulary=17)
    assert np.array_equal(found.promoted, np.argsort(-effects, axis=1)[:, :4])
    assert np.array_equal(found.suppressed, np.argsort(effects, axis=1)[:, :4])
    np.testing.assert_allclose(found.promotion, -np.sort(-effects, axis=1)[:, :4], rtol=1e-5)
    np.testing.assert_allclose(found.suppression, np.sort(effects, axis=1)[:, :4], rtol=1e-5)
    assert (found.bar_heights.sum(1) == 17).all()
    without = logit_tables(head, W_dec, 4, vocabulary=17, with_histogram=False)
    assert (without.bar_heights.shape, without.bar_values.shape) == ((9, 0), (9, 0))
    assert np.array_equal(without.promoted, found.promoted)
    for row in range(9):
        heights, edges = np.histogram(effects[row], HISTOGRAM_BARS)
        assert abs(heights - found.bar_heights[row]).sum() <= 2  # a value on an edge may round to either side
        np.testing.assert_allclose(found.bar_values[row], (edges[1:] + edges[:-1]) / 2, atol=1e-5)
