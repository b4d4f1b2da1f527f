"""A shard's rows depend on global feature indices alone; scores in chunks equal dense scores."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.model import FeatureShard, feature_shard, score_chunks
from distsae.model.feature_shard import initial_rows
from tests.allocation.samples import modest

D_IN, D_SAE = 7, 600


@modest
@given(st.integers(0, D_SAE - 1), st.integers(1, D_SAE))
def test_initial_rows_do_not_depend_on_the_split(start, length):
    features = range(start, min(start + length, D_SAE))
    whole = initial_rows(D_IN, range(D_SAE), seed=5)
    assert torch.equal(initial_rows(D_IN, features, seed=5), whole[features.start : features.stop])


def test_initial_rows_are_unit_vectors_of_the_seed():
    rows = initial_rows(D_IN, range(D_SAE), seed=5)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(D_SAE))
    assert len(rows.unique(dim=0)) == D_SAE
    assert not torch.equal(rows, initial_rows(D_IN, range(D_SAE), seed=6))
    assert rows.mean(0).norm() < 0.1  # no preferred direction


def test_parameters_at_the_start():
    b_dec = torch.arange(7.0)
    shard = FeatureShard(D_IN, range(100, 150), b_dec, seed=1)
    assert shard.W_enc.shape == shard.W_dec.shape == (50, D_IN)
    assert torch.equal(shard.W_enc, shard.W_dec)
    assert shard.W_enc.data_ptr() != shard.W_dec.data_ptr()
    assert torch.equal(shard.b_dec, b_dec)
    assert shard.b_dec.data_ptr() != b_dec.data_ptr()
    assert torch.equal(shard.b_enc, torch.zeros(50))
    assert {name for name, _ in shard.named_parameters()} == {"W_enc", "W_dec", "b_enc", "b_dec"}


@pytest.mark.parametrize("limit", [1, 4 * 11 * 8, 4 * 11 * 16, 1 << 25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunks_of_scores_equal_dense_scores(limit, dtype, monkeypatch):
    monkeypatch.setattr(feature_shard, "CHUNK_BYTES", limit)
    generator = torch.Generator().manual_seed(0)
    W_enc, b_enc, centred = (
        torch.randn(shape, generator=generator, dtype=dtype) for shape in ((61, 7), (61,), (11, 7))
    )
    dense, next_feature = (centred @ W_enc.t() + b_enc).t(), 0
    for first, chunk in score_chunks(W_enc, b_enc, centred):
        assert first == next_feature
        assert chunk.is_contiguous()
        assert chunk.numel() * 4 <= max(limit, 8 * 11 * 4)
        torch.testing.assert_close(chunk, dense[first : first + len(chunk)])
        next_feature = first + len(chunk)
    assert next_feature == 61


def test_encode_chunks_leave_no_graph():
    shard = FeatureShard(D_IN, range(16), torch.zeros(D_IN), seed=1)
    for _, chunk in shard.encode_chunks(torch.randn(3, D_IN)):
        assert not chunk.requires_grad


def test_the_decoder_stays_on_the_unit_sphere():
    shard = FeatureShard(D_IN, range(16), torch.zeros(D_IN), seed=1)
    shard.W_dec.grad = torch.randn(16, D_IN)
    before = shard.W_dec.grad.clone()
    shard.project_decoder_gradient()
    along = (shard.W_dec.grad * shard.W_dec).sum(1)
    torch.testing.assert_close(along, torch.zeros(16), atol=1e-6, rtol=0)
    removed = before - shard.W_dec.grad
    torch.testing.assert_close(removed, (before * shard.W_dec).sum(1, keepdim=True) * shard.W_dec.detach())
    with torch.no_grad():
        shard.W_dec += shard.W_dec.grad
    shard.normalise_decoder()
    torch.testing.assert_close(shard.W_dec.norm(dim=1), torch.ones(16))
