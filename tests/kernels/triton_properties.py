"""The Triton version against dense products: on a GPU, or with `TRITON_INTERPRET=1` on a CPU.

`test_triton_gpu.py` runs it in a process of its own, since Triton reads that variable only when it is imported.
"""

from functools import partial

import pytest
import torch

from distsae.allocation import FeatureSelector, Matches, MutualSelector, QuotaCredit, TokenSelector, zipf_quotas
from distsae.kernels import CPU, REFERENCE, AdamStep, kernels_for, row_starts
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import OptimizerConfig, PlainEngine, Selectors, forward_backward
from tests.training.dense_step import ALPHA
from tests.training.samples import D_IN, RULES, activations, mean_and_variance

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TRITON = kernels_for("triton", DEVICE)  # after their self-check
MESH = build_mesh(MeshConfig(), 1, DEVICE.type)
FEATURES = 12
TOKENS = 6
K = 2
assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)

# Tokens, features, width, share of the pairs that match: widths below, at and above a block and its multiples.
SHAPES = [(5, 7, 1, 0.5), (4, 9, 3, 0.3), (6, 5, 64, 1.0), (3, 4, 256, 0.5), (4, 3, 257, 0.7), (2, 5, 515, 0.3)]
problems = pytest.mark.parametrize("shape", [*SHAPES, (4, 6, 5, 0.0), (1, 1, 1, 1.0), (1, 8, 20, 0.2)], ids=str)
precise = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def _problem(shape, dtype):
    """Returns matches in random order, the same as a matrix, rows of features, and vectors of tokens."""
    tokens, features, width, share = shape
    generator = torch.Generator().manual_seed(tokens * features + width)
    mask = torch.rand(tokens, features, generator=generator) < share
    scores = torch.rand(tokens, features, generator=generator, dtype=dtype)
    token, feature = mask.nonzero()[torch.randperm(int(mask.sum()), generator=generator)].unbind(1)
    matches = Matches(token.to(DEVICE), feature.to(DEVICE), scores[token, feature].to(DEVICE))
    rows = torch.randn(features, width, generator=generator, dtype=dtype)
    vectors = torch.randn(tokens, width, generator=generator, dtype=dtype)
    return matches, (scores * mask).to(DEVICE), rows.to(DEVICE), vectors.to(DEVICE)


@problems
@precise
def test_decode(shape, dtype):
    matches, acts, rows, vectors = _problem(shape, dtype)
    found = TRITON.decode(matches.by_token(), rows, len(vectors))
    assert found.dtype == dtype
    assert_close(found, acts @ rows)


@problems
@precise
def test_match_dots_are_those_of_each_pair_alone(shape, dtype):
    matches, _, rows, vectors = _problem(shape, dtype)
    feature, token = matches.by_feature().feature, matches.by_feature().token
    found = TRITON.match_dots(feature, token, rows, vectors)
    assert found.dtype == dtype
    assert_close(found, (rows @ vectors.t())[feature, token])
    assert torch.equal(TRITON.match_dots(feature[1::2], token[1::2], rows, vectors), found[1::2])
    if len(matches):
        first = int(feature[0])  # some of the features: rows that begin elsewhere in memory
        assert torch.equal(TRITON.match_dots(feature - first, token, rows[first:], vectors), found)


@problems
@pytest.mark.parametrize("each", [False, True], ids=["one bound", "a bound each"])
def test_scores_at_are_match_dots_with_their_biases(shape, each):
    """Bit for bit, so that a selection does not depend on which of the two computed its scores."""
    matches, _, rows, vectors = _problem(shape, torch.float32)
    matches = matches.by_feature()
    biases = torch.linspace(-1, 1, len(rows)).to(DEVICE)
    bound = torch.linspace(0, 0.5, len(rows)).to(DEVICE)[:, None] if each else torch.full((1, 1), 0.25, device=DEVICE)
    flat = torch.cat(
        [matches.feature * len(vectors) + matches.token, torch.full((3,), len(rows) * len(vectors)).to(DEVICE)]
    )
    found = TRITON.scores_at(flat, rows, biases, vectors, bound)
    expected = TRITON.match_dots(matches.feature, matches.token, rows, vectors) + biases[matches.feature]
    least = bound.expand(len(rows), 1)[matches.feature, 0]
    assert torch.equal(found[:-3], torch.where((expected >= least) & (expected > 0), expected, 0.0))
    assert not found[-3:].any()


@problems
@precise
def test_row_sums(shape, dtype):
    matches, acts, rows, vectors = _problem(shape, dtype)
    matches = matches.by_feature()
    starts = row_starts(matches.feature, len(rows))
    found = TRITON.row_sums(starts, matches.token, matches.score, vectors)
    assert found.shape == rows.shape
    assert_close(found, acts.t() @ vectors)
    first = len(rows) // 2  # the same rows from a call without the ones before
    here = slice(int(starts[first]), None)
    some = TRITON.row_sums(starts[first:] - starts[first], matches.token[here], matches.score[here], vectors)
    assert torch.equal(some, found[first:])
    assert torch.equal(TRITON.row_sums(starts[first:], matches.token, matches.score, vectors), some)
    strided = torch.stack([matches.score, matches.score], 1)[:, 1]  # as a message is split
    assert torch.equal(TRITON.row_sums(starts, matches.token, strided, vectors), found)


@pytest.mark.parametrize("number", [1, 7, 8, 9, 25])
def test_a_row_is_summed_in_its_order(number):
    """As many matches as are requested at a time, one more and one fewer: the bits are those of a plain loop."""
    generator = torch.Generator().manual_seed(number)
    weight, vectors = torch.randn(number, generator=generator), torch.randn(30, 5, generator=generator)
    weight, vectors = weight.round(decimals=1).double(), vectors.double()
    index, total = torch.randint(30, (number,), generator=generator), torch.zeros(5, dtype=torch.double)
    for i in range(number):
        total += weight[i] * vectors[index[i]]
    starts = torch.tensor([0, 0, number, number])
    found = TRITON.row_sums(starts.to(DEVICE), index.to(DEVICE), weight.to(DEVICE), vectors.to(DEVICE)).cpu()
    torch.testing.assert_close(found[1], total, rtol=1e-14, atol=1e-14)
    assert not found[[0, 2]].any()


@pytest.mark.parametrize("bound", [0.0, 1.0])
def test_above(bound):
    scores = (2 * torch.randn(20, 30, generator=torch.Generator().manual_seed(0))).round().bfloat16()
    scores[0, 0] = torch.nan
    scores = scores.to(DEVICE)
    for shape in ((1,), (30,), (20, 1)):
        bounds = torch.full(shape, bound, device=DEVICE).bfloat16()
        expected = ((scores > bounds) | scores.isnan()).view(-1).nonzero().squeeze(1)
        assert torch.equal(TRITON.above(scores, bounds), expected)


@pytest.mark.parametrize("width", [96, 8192])
def test_upper_scores_are_rounded_once(width):
    generator = torch.Generator().manual_seed(0)
    rows, columns = (torch.randn(n, width, generator=generator).bfloat16().to(DEVICE) for n in (40, 30))
    out = torch.empty(40, 30, dtype=torch.bfloat16, device=DEVICE)
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
    TRITON.upper_scores(rows, columns, out)
    assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    exact = rows.double() @ columns.double().t()
    assert ((out.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-2).all()


def test_adam():
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(shape, generator=generator).to(DEVICE) for shape in ((5, 3), (5,))]
    expected = [parameter.clone() for parameter in parameters]
    ours, theirs = ([[torch.zeros_like(each) for each in parameters] for _ in range(2)] for _ in range(2))
    for step in range(1, 5):
        gradients = [torch.randn(parameter.shape, generator=generator).to(DEVICE) for parameter in parameters]
        TRITON.adam(parameters, gradients, ours[0], ours[1], AdamStep(step, 0.01, 0.8, 0.95, 1e-6))
        REFERENCE.adam(expected, gradients, theirs[0], theirs[1], AdamStep(step, 0.01, 0.8, 0.95, 1e-6))
    assert_close([*parameters, *ours[0], *ours[1]], [*expected, *theirs[0], *theirs[1]])


def _trained(kernels, device, rule):
    """Returns matches, numbers and parameters of two steps with the auxiliary loss; small, for the slow interpreter."""
    mean, variance = mean_and_variance(torch.float32)
    shard = FeatureShard(D_IN, FEATURES, range(FEATURES), mean, seed=3, kernels=kernels, prefilter=True).to(device)
    # With a small `eps`, Adam would turn a gradient of nothing but rounding error into a full step.
    engine = PlainEngine(shard, MESH, OptimizerConfig(clip_norm=0.1, eps=1e-4))
    selector = {"token_choice": TokenSelector, "mutual_choice": MutualSelector, "feature_choice": FeatureSelector}[
        rule
    ](FEATURES if rule == "feature_choice" else K)
    credit = QuotaCredit(zipf_quotas(FEATURES, K), K)
    auxiliary = MutualSelector(K, (torch.arange(FEATURES) % 3 == 0).to(device))
    found = []
    for step in range(2):
        if isinstance(selector, FeatureSelector):
            selector.grant(credit.pay(TOKENS).to(device))
        x = activations(step, torch.float32)[:TOKENS].to(device)
        outcome = forward_backward(shard, x, MESH, Selectors(selector, auxiliary), mean.to(device), variance, ALPHA)
        assert all(len(term.matches) > 0 for term in outcome.gradients.terms)
        norm = engine.update(outcome.gradients, 0.01)
        found.append((outcome.matches, torch.tensor([outcome.loss, outcome.aux_loss, norm])))
    return found, [parameter.detach().cpu() for parameter in shard.parameters()]


@pytest.mark.parametrize("rule", RULES)
def test_a_step_and_its_update_are_those_of_the_cpu(rule):
    found, parameters = _trained(TRITON, DEVICE, rule)
    expected, expected_parameters = _trained(CPU, torch.device("cpu"), rule)
    for (matches, numbers), (expected_matches, expected_numbers) in zip(found, expected, strict=True):
        assert torch.equal(matches.token.cpu(), expected_matches.token)
        assert torch.equal(matches.feature.cpu(), expected_matches.feature)
        assert_close(matches.score.cpu(), expected_matches.score)
        assert_close(numbers, expected_numbers)
    assert_close(parameters, expected_parameters)
