"""The whole update against the plain one, block by block: on a GPU, or with `TRITON_INTERPRET=1` on a CPU.

`test_triton_update.py` runs it in a process of its own, since Triton reads that variable only when it is imported.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch

from distsae.allocation import Matches
from distsae.kernels import AdamStep, UpdatedRows, kernels_for, moments_of
from distsae.kernels.prefilter_margins import summation_error
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import Gradients, OptimizerConfig, PlainEngine
from distsae.training.step.gradients import Term

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TRITON = kernels_for("triton", DEVICE)
IN_BLOCKS = replace(TRITON, update_rows=None)
MESH = build_mesh(MeshConfig(), 1, DEVICE.type)
FEATURES = 6
TOKENS = 6
assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-6)


def _term(generator, width, share):
    """Matches with random numbers; feature 2 has none, and feature 3 has one of every token."""
    mask = torch.rand(FEATURES, TOKENS, generator=generator) < share
    mask[2], mask[3] = False, share > 0
    feature, token = mask.nonzero().unbind(1)
    numbers = [torch.randn(len(token), generator=generator) for _ in range(2)]
    g = torch.randn(TOKENS, width, generator=generator).to(DEVICE)
    matches = Matches(token.to(DEVICE), feature.to(DEVICE), numbers[0].abs().to(DEVICE))
    return Term(matches, numbers[1].to(DEVICE), g)


def _updated(kernels, width, terms, prefilter, clip_norm, eps=1e-6, state="fp32"):
    """Returns norms, parameters, moments, and the prefilter's rows after two updates."""
    generator = torch.Generator().manual_seed(width)
    b_dec = torch.zeros(width)
    shard = FeatureShard(width, FEATURES, range(FEATURES), b_dec, 1, 1.0, kernels, prefilter).to(DEVICE)
    with torch.no_grad():
        shard.b_enc.copy_(torch.linspace(-1, 1, FEATURES))
    if prefilter:
        list(shard.encode_chunks(torch.randn(8, width, generator=generator).to(DEVICE)))
    engine = PlainEngine(shard, MESH, OptimizerConfig(clip_norm=clip_norm, eps=eps, state=state))
    norms = []
    for _ in range(2):
        centred = torch.randn(TOKENS, width, generator=generator).to(DEVICE)
        found = tuple(_term(generator, width, share) for share in terms)
        norms.append(engine.update(Gradients(found, centred, FEATURES, kernels), 0.01))
    low = shard.prefilter_rows()
    state = [*shard.parameters(), *(tensor for tensor in engine.tensors().values())]
    return torch.tensor(norms), [tensor.detach().cpu() for tensor in state], low


def _bf16(numbers):
    """Numbers in bf16: a GPU rounds them, and Triton's interpreter cuts them off."""
    if DEVICE.type == "cuda":
        return numbers.bfloat16().float()
    return (numbers.view(torch.int32) & ~0xFFFF).view(torch.float32)


CASES = [(1, (0.5,), 0.5), (5, (0.4, 0.3), None), (16, (0.0,), None), (64, (0.3, 0.0), 0.5), (257, (0.2, 0.2), 0.5)]
"""Widths below, at and above a block of columns; shares of the pairs that match, of each term; norm to clip to."""


@pytest.mark.parametrize(("width", "terms", "clip_norm"), CASES, ids=str)
def test_equals_the_update_in_blocks(width, terms, clip_norm):
    norms, state, _ = _updated(TRITON, width, terms, True, clip_norm)
    expected_norms, expected_state, _ = _updated(IN_BLOCKS, width, terms, True, clip_norm)
    assert_close(norms, expected_norms)
    for found, expected in zip(state, expected_state, strict=True):
        assert_close(found, expected)
    assert state[1].isfinite().all()
    torch.testing.assert_close(state[1].norm(dim=1), torch.ones(FEATURES))


@pytest.mark.parametrize("width", [24, 192])
@pytest.mark.parametrize("state", ["bf16", "int8"])
def test_rounded_moments_are_those_of_the_update_in_blocks(state, width):
    """Weights are equal up to rounding; a moment may be a neighbour where a last bit decided, which is rare."""
    found, expected = (
        _updated(kernels, width, (0.5, 0.3), True, 0.5, state=state)[:2] for kernels in (TRITON, IN_BLOCKS)
    )
    assert_close(found[0], expected[0])
    for one, other in zip(found[1][:4], expected[1][:4], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
        assert float((~one.isclose(other, rtol=1e-4, atol=1e-6)).float().mean()) < 0.01
    codes = [pair for pair in zip(found[1][4:], expected[1][4:], strict=True) if pair[0].dtype != torch.float32]
    assert len(codes) == 4
    for one, other in codes:
        assert float((one != other).float().mean()) < 0.01
    again = _updated(TRITON, width, (0.5, 0.3), True, 0.5, state=state)[1]
    assert all(torch.equal(*pair) for pair in zip(again, found[1], strict=True))


def test_without_a_prefilter_or_an_eps():
    """Rows without matches have moments of zero, and `0 / 0` in the padding of a row must stay there."""
    _, state, low = _updated(TRITON, 5, (0.5,), False, None)
    _, expected, _ = _updated(IN_BLOCKS, 5, (0.5,), False, None)
    assert low is None
    for found, other in zip(state, expected, strict=True):
        assert_close(found, other)
    _, state, _ = _updated(TRITON, 5, (1.0,), False, None, eps=0.0)
    assert all(state[1][feature].isfinite().all() for feature in (0, 1, 3, 4, 5))


@pytest.mark.parametrize("width", [1, 40])
def test_the_prefilter_bounds_the_updated_scores(width):
    """Its rows are the updated ones, and its margins at least what they must be, and hardly more."""
    _, state, low = _updated(TRITON, width, (0.6, 0.4), True, None)
    rows, biases = state[0], state[2]
    low = low.cpu().float()
    assert torch.equal(low[:, :width], _bf16(rows))
    norm, off = rows.norm(dim=1), (low[:, :width] - rows).norm(dim=1)
    bias = low[:, width] + low[:, width + 1]
    for margin, least in ((low[:, width + 2], norm), (low[:, width + 3], off)):
        assert (margin >= least).all()
        assert (margin <= 1.03 * least + 3 * summation_error(width, DEVICE) * norm).all()
    assert (bias >= biases).all()
    assert (bias <= biases + 2.0**-11 * biases.abs() + 1e-12).all()
    assert not low[:, width + 4 :].any()


def test_an_update_is_the_same_from_call_to_call():
    first, second = (_updated(TRITON, 20, (0.5, 0.5), True, 0.5) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(*pair) for pair in zip(first[1], second[1], strict=True))


@pytest.mark.parametrize("state", ["fp32", "int8"])
def test_some_rows_and_then_the_others_are_all_rows_bit_for_bit(state):
    """As data ranks update them that divide the moments. Feature 3 has more matches than a segment."""
    tokens, width, generator = 300, 24, torch.Generator().manual_seed(4)
    mask = torch.rand(FEATURES, tokens, generator=generator) < 0.1
    mask[2], mask[3] = False, True
    feature, token = mask.nonzero().unbind(1)
    score, dots = torch.randn(2, len(token), generator=generator).to(DEVICE)
    g, centred = torch.randn(2, tokens, width, generator=generator).to(DEVICE)
    matches = Matches(token.to(DEVICE), feature.to(DEVICE), score.abs())
    gradients = Gradients((Term(matches, dots, g),), centred, FEATURES, TRITON)
    found = []
    for parts in ([range(FEATURES)], [range(3), range(3, FEATURES)], [range(1), range(1, 4), range(4, FEATURES)]):
        shard = FeatureShard(width, FEATURES, range(FEATURES), torch.zeros(width), 1, 1.0, TRITON, True).to(DEVICE)
        list(shard.encode_chunks(centred[:8]))
        low, b_enc, changed = shard.prefilter_rows(), gradients.b_enc(), []
        for rows in parts:
            part = slice(rows.start, rows.stop)
            own = {
                name: (parameter.detach()[part], moments_of(name, parameter.detach()[part], state, rows.start, 0))
                for name, parameter in shard.named_parameters()
                if name != "b_dec"
            }
            live = {name: (parameter, moments.kept(1)) for name, (parameter, moments) in own.items()}
            updated = UpdatedRows(**live, low=low[part])
            step = AdamStep(1, 0.01, 0.8, 0.95, 1e-6, 3.0)
            energy = TRITON.update_rows(gradients.row_terms(rows), centred, b_enc[part], updated, step, 0.7)
            changed.append([energy, *(tensor for _, moments in own.values() for tensor in moments.tensors().values())])
        together = [torch.cat(tensors) for tensors in zip(*changed, strict=True)]
        found.append([*(parameter.detach() for parameter in shard.parameters()), low, *together])
    for others in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], others, strict=True))
