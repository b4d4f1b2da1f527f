"""Kernels and margins that are wrong are found; those of this machine are right."""

import dataclasses

import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.kernels import CPU, REFERENCE
from distsae.recipes.check.operations import kernels_found, margin_found, margin_used

DEVICE = torch.device("cpu")


def _with(**changes):
    return dataclasses.replace(CPU, **changes)


def test_this_machine_is_right():
    assert kernels_found(DEVICE).state == "ok"
    found = margin_found(DEVICE, 64)
    assert found.state == "ok"
    assert 0 < max(found.figures.values()) <= 1


def test_a_wrong_operation_is_named(monkeypatch):
    wrong = _with(row_sums=lambda *operands: CPU.row_sums(*operands) * 1.01)
    monkeypatch.setattr("distsae.recipes.check.operations.kernels_for", lambda name, device: wrong)
    found = kernels_found(DEVICE)
    assert found.state == "failed"
    assert "row_sums gave a different result" in found.text


def test_a_product_that_rounds_too_much_breaks_the_margin(monkeypatch):
    def coarse(rows, columns, out):
        CPU.upper_scores(rows, columns, out)
        out.mul_(1 - 2**-4)

    monkeypatch.setattr("distsae.recipes.check.operations.CPU", _with(upper_scores=coarse))
    found = margin_found(DEVICE, 64)
    assert found.state == "failed"
    assert "`prefilter` none" in found.text


@given(st.integers(0, 2**32), st.sampled_from([1e-3, 1.0, 1e3]), st.integers(8, 80))
def test_the_share_of_the_margin_is_at_most_one_for_a_right_product(seed, size, d_in):
    generator = torch.Generator().manual_seed(seed)
    W_enc = size * torch.randn(20, d_in, generator=generator)
    b_enc, centred = torch.randn(20, generator=generator), torch.randn(9, d_in, generator=generator)
    assert margin_used(REFERENCE, W_enc, b_enc, centred) <= 1


def test_without_positive_scores_no_margin_is_used():
    assert margin_used(CPU, torch.zeros(4, 8), -torch.ones(4), torch.ones(3, 8)) == 0
