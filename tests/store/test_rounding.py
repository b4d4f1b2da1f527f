import pytest
import torch

from distsae.errors import WrongInput
from distsae.store.rounding import refuse_rounding, roomier_dtype, rounding_loss

KINDS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def _rows(scale, offset=0.0, rows=64, d_in=48):
    return scale * torch.randn(rows, d_in, generator=torch.Generator().manual_seed(0)) + offset


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("scale", [1e-2, 1.0, 100.0])
def test_activations_of_usual_size_lose_nothing_worth_a_word(dtype, scale, capsys):
    refuse_rounding(_rows(scale), dtype, "h")
    assert rounding_loss(_rows(scale), KINDS[dtype]) < 1e-5
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("scale", [1e-7, 1e-8, 1e-10])
def test_values_that_underflow_are_refused_with_the_way_out(scale):
    with pytest.raises(WrongInput) as caught:
        refuse_rounding(_rows(scale), "fp16", "blocks.0.mlp_out")
    text = str(caught.value)
    assert text.startswith("`dtype` (=fp16) must keep activations apart; got ")
    assert "% of the variance at blocks.0.mlp_out lost" in text
    assert "100.0% of the values are below 6.1e-05" in text
    assert text.endswith("use --dtype bf16")
    refuse_rounding(_rows(scale), "bf16", "h")
    refuse_rounding(_rows(scale), "fp32", "h")


def test_a_small_loss_is_said_and_no_more(capsys):
    rows = _rows(4e-7)
    assert 0.001 < rounding_loss(rows, torch.float16) < 0.01
    refuse_rounding(rows, "fp16", "h")
    (line,) = capsys.readouterr().err.splitlines()
    assert "`dtype` (=fp16): got" not in line
    assert "% of the variance at h lost to rounding" in line
    assert line.endswith("--dtype bf16 would keep it")


def test_differences_below_the_digits_of_bf16_are_a_loss_too():
    """A large constant in every row leaves bf16 no digits for what differs."""
    with pytest.raises(WrongInput, match=r"`dtype` \(=bf16\) .*; use --dtype fp32"):
        refuse_rounding(_rows(1.0, offset=500.0), "bf16", "h")


def test_rows_with_huge_norms_do_not_hide_the_others():
    rows = _rows(1e-7)
    expected = rounding_loss(rows, torch.float16)
    rows[3] = 1e4
    assert rounding_loss(rows, torch.float16) == pytest.approx(expected, rel=0.1)
    assert rounding_loss(torch.cat([rows, torch.zeros(9, 48)]), torch.float16) == pytest.approx(expected, rel=0.1)


def test_the_dtype_that_is_advised_keeps_the_rows():
    assert roomier_dtype(_rows(1e-9)) == roomier_dtype(_rows(1e6)) == "bf16"
    beyond = torch.tensor([[3.4e38, 1e38, 0.0], [0.0, 1e38, 3.4e38]])
    assert roomier_dtype(_rows(1.0, offset=1e4)) == roomier_dtype(beyond) == "fp32"


@pytest.mark.parametrize(
    "rows", [torch.zeros(5, 4), torch.full((5, 4), 0.1), torch.ones(1, 4) / 3, torch.ones(5, 1) / 3]
)
def test_rows_that_do_not_differ_lose_nothing(rows):
    for dtype in KINDS:
        refuse_rounding(rows, dtype, "h")
