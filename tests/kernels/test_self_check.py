"""The check of kernels before a run uses them: it accepts right ones, and names the operation that is wrong."""

from dataclasses import fields, replace
from functools import partial
from importlib.util import find_spec

import pytest
import torch

from distsae.errors import WrongInput
from distsae.kernels import CPU, REFERENCE
from distsae.kernels.operations import Kernels
from distsae.kernels.plain_update import plain_update
from distsae.kernels.prefilter import plain_scores_at
from distsae.kernels.self_check import KernelsDoNotRun, refuse_if_wrong
from distsae.kernels.upper_bounds import plain_places_above

HERE = torch.device("cpu")


@pytest.mark.parametrize("kernels", [CPU, REFERENCE], ids=lambda kernels: kernels.name)
def test_right_kernels_pass_and_every_operation_is_tried(kernels):
    tried = set()

    def recorded(name):
        def operation(*operands):
            tried.add(name)
            return getattr(kernels, name)(*operands)

        return operation

    kernels = replace(
        kernels,
        update_rows=plain_update,
        scores_at=partial(plain_scores_at, kernels.match_dots),
        places_above=plain_places_above,
    )
    operations = {field.name for field in fields(Kernels)} - {"name"}
    refuse_if_wrong(replace(kernels, **{name: recorded(name) for name in operations}), HERE)
    assert tried == operations


def _added_in_bf16(rows, columns, out):
    half = rows.shape[1] // 2
    out.copy_(rows[:, :half] @ columns[:, :half].t())
    out.add_(rows[:, half:] @ columns[:, half:].t())


def _dependent_on_other_pairs(feature, token, rows, vectors):
    return REFERENCE.match_dots(feature, token, rows, vectors) * (1 + 1e-6 * feature.numel())


def _empty_rows_not_written(starts, index, weight, vectors):
    sums = REFERENCE.row_sums(starts, index, weight, vectors)
    sums[starts.diff() == 0] = torch.nan
    return sums


def _another_bias_correction(parameters, gradients, means, squares, numbers):
    REFERENCE.adam(parameters, gradients, means, squares, replace(numbers, step=numbers.step + 1))


def _failing(*operands):
    raise RuntimeError("ptxas fatal\nand much more")


def _decoder_rows_of_another_norm(terms, centred, b_gradient, rows, numbers, scale):
    energy = plain_update(terms, centred, b_gradient, rows, numbers, scale)
    rows.W_dec[0].mul_(1.001)
    return energy


WRONG = {
    "decode": lambda by_token, W_dec, tokens: REFERENCE.decode(by_token, W_dec, tokens) * 1.01,
    "match_dots": _dependent_on_other_pairs,
    "row_sums": _empty_rows_not_written,
    "upper_scores": _added_in_bf16,
    "above": lambda scores, bound: (scores >= bound).view(-1).nonzero().squeeze(1),
    "adam": _another_bias_correction,
    "update_rows": _decoder_rows_of_another_norm,
    "places_above": lambda rows, columns, bound, places: plain_places_above(rows, columns, 1.000001 * bound, places),
    "scores_at": lambda *operands: plain_scores_at(REFERENCE.match_dots, *operands) * (1 + 1e-6),
}


@pytest.mark.parametrize("operation", WRONG)
def test_a_wrong_operation_is_named(operation):
    kernels = replace(REFERENCE, name="new", **{operation: WRONG[operation]})
    message = rf"`kernels` \(=new\) must .* on cpu .*; {operation} gave a different result; use `kernels` reference"
    with pytest.raises(WrongInput, match=message):
        refuse_if_wrong(kernels, HERE)


def test_a_failing_operation_is_named_in_one_line():
    with pytest.raises(WrongInput, match=r"decode gave RuntimeError ptxas fatal; use") as caught:
        refuse_if_wrong(replace(REFERENCE, decode=_failing), HERE)
    assert "\n" not in str(caught.value)
    assert "much more" not in str(caught.value)


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_a_build_of_triton_that_fails_is_one_line(monkeypatch, tmp_path):
    """As where Python's headers are missing: the compiler fails, and Triton passes that on."""
    from triton.runtime.build import compile_module_from_src

    monkeypatch.setenv("CC", "/bin/false")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))

    def built(*operands):
        compile_module_from_src("int nothing;", "nothing")

    kernels = replace(REFERENCE, name="triton", row_sums=built)
    with pytest.raises(KernelsDoNotRun, match=r"row_sums gave CalledProcessError Command .*; use `kernels`") as caught:
        refuse_if_wrong(kernels, HERE)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_full_device_is_no_fault_of_the_kernels():
    def full(*operands):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        refuse_if_wrong(replace(REFERENCE, decode=full), HERE)


def test_margins_of_the_prefilter_that_are_too_small_are_noticed():
    def update(terms, centred, b_gradient, rows, numbers, scale):
        energy = plain_update(terms, centred, b_gradient, rows, numbers, scale)
        rows.low[5, rows.W_enc[0].shape[1] + 3] *= 0.5
        return energy

    with pytest.raises(WrongInput, match="update_rows gave a different result"):
        refuse_if_wrong(replace(REFERENCE, update_rows=update), HERE)
