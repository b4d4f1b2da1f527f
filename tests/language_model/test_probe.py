import pytest
import torch
from torch import nn

from distsae.errors import WrongInput
from distsae.language_model import capture, hook_widths, load_language_model


@pytest.fixture
def model(tiny_model_dir):
    return load_language_model(str(tiny_model_dir)).model


class _Around(nn.Module):
    """A block with a module whose output the block does not use."""

    def __init__(self, block, beside, argument):
        super().__init__()
        self.block, self.beside, self.argument = block, beside, argument

    def forward(self, hidden, *args, **kwargs):
        self.beside(self.argument(hidden))
        return self.block(hidden, *args, **kwargs)


class _Gives(nn.Module):
    def __init__(self, given):
        super().__init__()
        self.given = given

    def forward(self, hidden):
        return self.given(hidden)


def test_widths(model):
    widths = hook_widths(model, ["blocks.1.mlp_hidden", "blocks.0.resid_post"])
    assert widths == {"blocks.1.mlp_hidden": 128, "blocks.0.resid_post": 32}


def test_a_module_that_runs_twice_is_refused(model):
    model.transformer.h[1] = model.transformer.h[0]
    for hook in ("blocks.0.resid_post", "blocks.0.mlp_out", "transformer.h.0.ln_1"):
        with pytest.raises(WrongInput, match=r"must run once in a forward pass; got 2 times; choose another hook"):
            hook_widths(model, [hook])
    assert hook_widths(model, ["transformer.ln_f"]) == {"transformer.ln_f": 32}


def test_a_module_that_never_runs_is_refused(model):
    model.spare = nn.Linear(32, 32)
    with pytest.raises(WrongInput, match="got a module that never runs"):
        hook_widths(model, ["spare"])


@pytest.mark.parametrize(
    ("gives", "got"),
    [
        (lambda x: {"x": x}, "a dict"),
        (lambda x: [x], "a list"),
        (lambda x: None, "a NoneType"),
        (lambda x: (), "a tuple"),
        (lambda x: (None, x), "a NoneType"),
        (lambda x: x.argmax(-1), r"the shape \[2, 3\] of int64"),
        (lambda x: x.round().long(), r"the shape \[2, 3, 32\] of int64"),
        (lambda x: x.flatten(0, 1), r"the shape \[6, 32\]"),
        (lambda x: x[:1], r"the shape \[1, 3, 32\]"),
        (lambda x: x.transpose(0, 1), r"the shape \[3, 2, 32\]"),
        (lambda x: x[..., None], r"the shape \[2, 3, 32, 1\]"),
    ],
)
def test_what_is_no_tensor_of_each_token_is_refused(model, gives, got):
    model.transformer.h[0] = _Around(model.transformer.h[0], _Gives(gives), lambda hidden: hidden)
    with pytest.raises(WrongInput, match=rf"must be a tensor \[batch, length, d\].*; got {got}.* for \[2, 3\] tokens"):
        hook_widths(model, ["transformer.h.0.beside"])


def test_positions_without_an_axis_of_contexts_are_refused(model):
    with pytest.raises(WrongInput, match=r"got the shape \[1, 3, 32\]"):
        hook_widths(model, ["transformer.wpe"])


def test_a_whole_models_output_is_refused_when_captured_too(model):
    with pytest.raises(WrongInput, match="got a BaseModelOutput"):
        capture(model, ["transformer"], torch.zeros(1, 4, dtype=torch.int64))


def test_a_model_that_does_not_run_is_one_line(model):
    model.transformer.h[0] = _Around(
        model.transformer.h[0], _Gives(lambda x: x.no_such_method()), lambda hidden: hidden
    )
    with pytest.raises(WrongInput, match=r"must run on a few tokens; got .*Error: "):
        hook_widths(model, ["transformer.ln_f"])
