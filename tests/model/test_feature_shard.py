"""The feature shard: initial rows depend on global feature indices alone, and scores in chunks equal dense scores."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import (
    FeatureSelector,
    MutualSelector,
    Placement,
    QuotaCredit,
    TokenSelector,
    select,
    zipf_quotas,
)
from distsae.model import FeatureShard, project_out, score_chunks
from distsae.model.feature_shard import initial_rows
from distsae.seeds import torch_generator
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


@pytest.mark.parametrize(("features", "d_in"), [(range(600), 7), (range(255, 258), 576), (range(300, 301), 2304)])
def test_initial_rows_made_at_once_have_the_same_bits(features, d_in):
    blocks = [torch.randn(256, d_in, generator=torch_generator(5, "rows", block)) for block in range(3)]
    whole = torch.cat(blocks)[features.start : features.stop]
    expected = whole / torch.linalg.vector_norm(whole, dim=1, keepdim=True)
    assert torch.equal(initial_rows(d_in, features, seed=5), expected)


_PEAK = """
import resource, torch
from distsae.model import FeatureShard
FeatureShard(8, 300, range(300), torch.zeros(8), 0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
FeatureShard(512, 1 << 16, range(1 << 16), torch.zeros(512), 0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (4 * 512 << 16))
"""


def test_a_new_shard_takes_the_memory_of_its_two_matrices():
    """The plan of a run says so (`planning/memory.py`); with three, a run that fits would not start."""
    done = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2.2


def test_parameters_at_the_start():
    b_dec = torch.arange(7.0)
    shard = FeatureShard(D_IN, 200, range(100, 150), b_dec, seed=1)
    assert shard.W_enc.shape == shard.W_dec.shape == (50, D_IN)
    assert torch.equal(shard.W_enc, shard.W_dec)
    assert shard.W_enc.data_ptr() != shard.W_dec.data_ptr()
    assert torch.equal(shard.b_dec, b_dec)
    assert shard.b_dec.data_ptr() != b_dec.data_ptr()
    assert torch.equal(shard.b_enc, torch.zeros(50))
    assert {name for name, _ in shard.named_parameters()} == {"W_enc", "W_dec", "b_enc", "b_dec"}


MB_OF_8 = 8 * 11 * 48 / (1 << 20)  # memory for a chunk of eight features and eleven tokens


@pytest.mark.parametrize(
    ("selection_mb", "sizes"),
    [
        (1e-9, [8] * 6 + [13]),  # the last five are part of the last chunk
        (1.9 * MB_OF_8, [8] * 6 + [13]),
        (2 * MB_OF_8, [16, 16, 16, 13]),
        (7 * MB_OF_8, [61]),
        (1000, [61]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunks_of_scores_equal_dense_scores(selection_mb, sizes, dtype):
    generator = torch.Generator().manual_seed(0)
    W_enc, b_enc, centred = (
        torch.randn(shape, generator=generator, dtype=dtype) for shape in ((61, 7), (61,), (11, 7))
    )
    dense = (centred @ W_enc.t() + b_enc).t()
    next_feature = 0
    found = []
    for first, chunk in score_chunks(W_enc, b_enc, centred, selection_mb):
        assert first == next_feature
        found.append(len(chunk))
        assert chunk.is_contiguous()
        torch.testing.assert_close(chunk, dense[first : first + len(chunk)])
        next_feature = first + len(chunk)
    assert found == sizes


@pytest.mark.parametrize("features", [1, 7, 8, 15, 16, 17])
def test_chunks_have_at_least_eight_features_if_the_shard_does(features):
    chunks = list(score_chunks(torch.randn(features, 7), torch.zeros(features), torch.randn(11, 7), 1e-9))
    assert sum(len(chunk) for _, chunk in chunks) == features
    assert len(chunks) == max(features // 8, 1)


@pytest.mark.parametrize("allocation", ["token_choice", "mutual_choice", "feature_choice"])
def test_the_memory_target_does_not_change_the_matches(allocation):
    """Small integers have the same products in any order of summation, and many ties."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-3, 4, (100, D_IN), generator=generator).float()
    batches = [torch.randint(-3, 4, (24, D_IN), generator=generator).float() * scale for scale in (1, 100, 0.01, 1)]
    credit = QuotaCredit(zipf_quotas(100, 4.0), 4.0)
    quotas = [credit.pay(24) for _ in batches]

    def matches(selection_mb):
        shard = FeatureShard(D_IN, 100, range(100), torch.zeros(D_IN), seed=1, selection_mb=selection_mb)
        shard.W_enc.data = rows
        selector = {
            "token_choice": lambda: TokenSelector(4),
            "mutual_choice": lambda: MutualSelector(4),
            "feature_choice": lambda: FeatureSelector(100),
        }[allocation]()
        found = []
        for batch, quota in zip(batches, quotas, strict=True):
            if isinstance(selector, FeatureSelector):
                selector.grant(quota)
            found += select([selector], lambda batch=batch: shard.encode_chunks(batch), Placement.solo(100), 24)
        return found

    smallest_chunks = matches(1e-9)
    for selection_mb in (0.03, 1e6):
        for expected, found in zip(smallest_chunks, matches(selection_mb), strict=True):
            assert len(expected) > 0
            for name in ("token", "feature", "score"):
                assert torch.equal(getattr(found, name), getattr(expected, name))


def test_encode_chunks_leave_no_graph():
    shard = FeatureShard(D_IN, 16, range(16), torch.zeros(D_IN), seed=1)
    for _, scores in shard.encode_chunks(torch.randn(3, D_IN)):
        assert not scores.above(torch.zeros(1))[1].requires_grad


def test_decoder_rows_keep_unit_norm():
    shard = FeatureShard(D_IN, 16, range(16), torch.zeros(D_IN), seed=1)
    before = torch.randn(16, D_IN, generator=torch.Generator().manual_seed(0))
    gradient, rows = before.clone(), shard.W_dec.detach()
    project_out(gradient, rows)
    along = (gradient * rows).sum(1)
    torch.testing.assert_close(along, torch.zeros(16), atol=1e-6, rtol=0)
    torch.testing.assert_close(before - gradient, (before * rows).sum(1, keepdim=True) * rows)
    with torch.no_grad():
        shard.W_dec += gradient
    shard.normalise_decoder()
    torch.testing.assert_close(shard.W_dec.norm(dim=1), torch.ones(16))
