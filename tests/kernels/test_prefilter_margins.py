"""The margins' numbers: what they must cover at least."""

import torch

from distsae.kernels.prefilter_margins import FLUSHED, MARGIN, ROUND_UP, TINY, bias_error, summation_error


def test_rounding_up_covers_rounding_to_bf16():
    numbers = torch.logspace(-30, 30, 10_000)
    assert ((numbers * ROUND_UP).bfloat16().double() >= numbers.double()).all()
    assert ((numbers * MARGIN).bfloat16().double() >= 1.009 * numbers.double()).all()


def test_smaller_numbers_than_the_limits_are_lost():
    assert torch.finfo(torch.float32).tiny >= FLUSHED**2
    assert torch.tensor(TINY).bfloat16() > 0


def test_a_gpu_may_lose_four_times_as_much_in_a_sum():
    on_cpu, on_gpu = (summation_error(768, torch.device(kind)) for kind in ("cpu", "cuda"))
    assert on_gpu == 4 * on_cpu
    assert on_cpu >= 768 * 2.0**-24
    biases = torch.linspace(-3, 3, 999)
    coarse = biases.bfloat16().float()
    rest = (biases - coarse + bias_error(on_cpu) * biases.abs()).bfloat16().float()
    assert (coarse.double() + rest.double() >= biases.double()).all()
