"""Adam's moments in fewer bits: exact in expectation, the same for any split of the rows, and good enough to train."""

import math

import pytest
import torch

from distsae.allocation import MutualSelector
from distsae.errors import WrongInput
from distsae.kernels import moments_of
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import OptimizerConfig, PlainEngine, Selectors, forward_backward
from tests.training.samples import K, activations, mean_and_variance, shard_on

MESH = build_mesh(MeshConfig(), 1, "cpu")
ROWS, D_IN = 96, 32
SMALL = ("bf16", "int8")
EVERY = slice(0, ROWS)


def _fresh(kind, first_row=0, rows=ROWS, name="W", seed=3):
    return moments_of(name, torch.zeros(rows, D_IN), kind, first_row, seed)


def _numbers(seed=0):
    """Returns random first and second moments, whose sizes vary by a factor of a hundred within a row."""
    generator = torch.Generator().manual_seed(seed)
    size = 10 ** (2 * torch.rand(D_IN, generator=generator) - 8)
    mean = torch.randn(ROWS, D_IN, generator=generator) * size
    return mean, (torch.randn(ROWS, D_IN, generator=generator) * size).square()


def _written(moments, mean, square, step, rows=EVERY):
    moments.write(rows, mean.clone(), square.clone(), step)
    return moments.read(rows)


def test_fp32_is_live():
    moments = _fresh("fp32")
    for part, name in zip(moments.read(slice(5, 9)), ("exp_avg", "exp_avg_sq"), strict=True):
        part.fill_(7.0)
        assert moments.tensors()[name].sum() == 7 * 4 * D_IN


@pytest.mark.parametrize(("kind", "largest_gap"), [("bf16", 2**-7), ("int8", 2**-3)])
def test_rounding_is_exact_in_expectation(kind, largest_gap):
    """Each stored number is a neighbour of the true one and equals it on average; in 8 bits, that holds for roots."""
    moments = _fresh(kind)
    (mean, square) = _numbers()
    draws = 1000
    found = [_written(moments, mean, square, step) for step in range(draws)]
    for side, root in ((0, False), (1, kind == "int8")):
        true = (mean, square.sqrt() if root else square)[side]
        stored = torch.stack([pair[side].sqrt() if root else pair[side] for pair in found]).double()
        size = square.sqrt() if side else mean.abs()
        normal = size > size.amax(1, keepdim=True) * 2**-14  # smaller numbers have no code in 8 bits
        assert normal.double().mean() > 0.99
        errors = ((stored - true) / true.abs())[:, normal]
        assert errors.abs().max() <= largest_gap * 1.001
        assert errors.abs().max() > largest_gap / 4
        # Mean error of each number over the steps, then of each step over the numbers, in standard errors.
        assert (errors.mean(0).abs() < 5.5 * largest_gap / 2 / math.sqrt(draws)).all()
        of_steps = errors.mean(1) / (errors.std(0).square().sum().sqrt() / errors.shape[1])
        assert abs(of_steps.mean() * math.sqrt(draws)) < 4.5
        assert of_steps.std() == pytest.approx(1, abs=0.1), "errors of one step are not independent"


@pytest.mark.parametrize("kind", SMALL)
def test_the_second_moment_decays_where_rounding_to_nearest_would_hold_it(kind):
    """One number in each row stays the same, the others decay for 700 steps."""
    moments, steps = _fresh(kind), 700
    square = torch.ones(ROWS, D_IN)
    moments.write(EVERY, torch.zeros_like(square), square, 0)
    nearest = torch.ones((), dtype=torch.bfloat16)
    for step in range(1, steps + 1):
        mean, square = moments.read(EVERY)
        square.mul_(0.999)
        square[:, 0] += 0.001
        moments.write(EVERY, mean, square, step)
        nearest = (nearest.float() * 0.999).bfloat16()
    assert nearest == 1
    _, square = moments.read(EVERY)
    assert square[:, 0].mean() == pytest.approx(1, rel=0.02)
    assert square[:, 1:].mean() == pytest.approx(0.999**steps, rel=0.03)


@pytest.mark.parametrize("kind", SMALL)
def test_bits_follow_from_seed_step_parameter_and_global_row(kind):
    mean, square = _numbers()
    whole = _written(_fresh(kind), mean, square, 5)
    for first, last in ((0, 40), (40, 41), (41, ROWS)):
        part, middle = _fresh(kind, first, last - first), (last - first) // 2
        for rows in (slice(middle, last - first), slice(0, middle)):
            part.write(rows, mean[first:last][rows].clone(), square[first:last][rows].clone(), 5)
        for found, expected in zip(part.read(slice(0, last - first)), whole, strict=True):
            assert torch.equal(found, expected[first:last])
    for other in (
        _written(_fresh(kind), mean, square, 6),
        _written(_fresh(kind, name="V"), mean, square, 5),
        _written(_fresh(kind, seed=4), mean, square, 5),
        _written(_fresh(kind, first_row=1), mean, square, 5),
    ):
        for found, expected in zip(other, whole, strict=True):
            assert 0.2 < float((found != expected).float().mean()) < 0.9


@pytest.mark.parametrize("kind", SMALL)
def test_zeros_stay_zero(kind):
    """So a feature without gradients, or a single number, does not start to change."""
    mean, square = _numbers()
    mean[:, 3] = square[:, 3] = 0
    mean[7] = square[7] = 0
    moments = _fresh(kind)
    assert not any(part.any() for part in moments.read(EVERY))
    stored_mean, stored_square = _written(moments, mean, square, 1)
    assert not stored_mean[:, 3].any()
    assert not stored_mean[7].any()
    assert stored_square[7].max() < 1e-30
    assert stored_square.isfinite().all()


def test_int8_keeps_a_second_moment_above_zero():
    """Otherwise an update would divide by zero: here the smallest is 1e-12 of the largest."""
    square = torch.ones(ROWS, D_IN)
    square[:, 1:] = 1e-12
    _, stored = _written(_fresh("int8"), torch.zeros_like(square), square, 1)
    assert (stored >= square).all()
    assert stored[:, 1:].max() < 1e-9


@pytest.mark.parametrize(("kind", "bytes_per_number"), [("fp32", 8), ("bf16", 4), ("int8", 2 + 2 * 4 / 256)])
def test_memory(kind, bytes_per_number):
    """Bytes of both moments together; vectors have fp32 moments, and every tensor has one row per feature."""
    tensors = moments_of("W", torch.zeros(10, 768), kind, 0, 0).tensors().values()
    assert sum(tensor.nbytes for tensor in tensors) == pytest.approx(7680 * bytes_per_number)
    assert all(len(tensor) == 10 for tensor in tensors)
    assert sum(tensor.nbytes for tensor in moments_of("b", torch.zeros(10), kind, 0, 0).tensors().values()) == 80


@pytest.mark.parametrize(("d_in", "blocks"), [(16, 1), (256, 1), (384, 2), (768, 3), (500, 2), (257, 257)])
def test_int8_blocks_divide_a_row(d_in, blocks):
    scales = moments_of("W", torch.zeros(4, d_in), "int8", 0, 0).tensors()["exp_avg_scale"]
    assert scales.shape == (4, blocks)


def _trained(state, steps, start=None):
    shard = shard_on(MESH, torch.float32)
    mean, variance = mean_and_variance(torch.float32)
    engine, losses = PlainEngine(shard, MESH, OptimizerConfig(state=state), seed=1), []
    named = dict(shard.named_parameters())
    first = 0
    if start is not None:
        first, weights, moments = start
        with torch.no_grad():
            for name, value in weights.items():
                named[name].copy_(value)
            live = engine.tensors()
            for name, value in moments.items():
                live[name].copy_(value)
    for step in range(first, steps):
        x = activations(step, torch.float32)
        outcome = forward_backward(shard, x, MESH, Selectors(MutualSelector(K)), mean, variance, 0.0)
        engine.update(outcome.gradients, 3e-3)
        losses.append(outcome.loss)
    weights = {name: parameter.detach().clone() for name, parameter in named.items()}
    return losses, (steps, weights, {name: tensor.clone() for name, tensor in engine.tensors().items()})


def test_training_reaches_the_loss_of_fp32():
    """After 250 steps the loss is within 3% of that with fp32 moments."""
    final = {state: sum(_trained(state, 250)[0][-25:]) / 25 for state in ("fp32", *SMALL)}
    assert final["fp32"] < 0.3 * _trained("fp32", 1)[0][0]
    for state in SMALL:
        assert final[state] == pytest.approx(final["fp32"], rel=0.03), final


@pytest.mark.parametrize("state", SMALL)
def test_resumes_bit_for_bit(state):
    _, (_, straight, moments) = _trained(state, 20)
    _, resumed_from = _trained(state, 9)
    _, (_, resumed, again) = _trained(state, 20, resumed_from)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert all(torch.equal(moments[name], again[name]) for name in moments)


def test_other_states_are_refused():
    with pytest.raises(WrongInput, match=r"`optimizer.state` \(=fp8\) must be fp32, bf16 or int8"):
        OptimizerConfig(state="fp8")
