"""Widths and parameters of a model that is never loaded are those of the model."""

import pytest

from distsae.errors import WrongInput
from distsae.language_model import load_language_model
from distsae.language_model.model_shape import model_shape


def test_parameters_up_to_a_hook_are_those_of_the_model(tiny_model_dir):
    model = load_language_model(str(tiny_model_dir)).model
    blocks = [sum(p.numel() for p in block.parameters()) for block in model.transformer.h]
    positions = model.transformer.wpe.weight.numel()
    first = model_shape(str(tiny_model_dir), "blocks.0.resid_post")
    assert (first.d_in, first.parameters) == (32, positions + blocks[0])
    assert model_shape(str(tiny_model_dir), "blocks.1.resid_post").parameters == positions + sum(blocks[:2])
    assert model_shape(str(tiny_model_dir), "blocks.1.resid_pre").parameters == positions + blocks[0]
    assert model_shape(str(tiny_model_dir)).hook == "blocks.0.resid_post"


def test_what_cannot_be_told_is_one_line(tiny_model_dir, tmp_path):
    with pytest.raises(WrongInput, match="must have the width of the residual stream"):
        model_shape(str(tiny_model_dir), "blocks.0.mlp_hidden")
    with pytest.raises(WrongInput, match=r"must be a folder with a config\.json"):
        model_shape(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "no such model"}')
    with pytest.raises(WrongInput, match="must be a causal language model that transformers knows"):
        model_shape(str(tmp_path))
    with pytest.raises(WrongInput, match="must be an existing path"):
        model_shape("./nowhere")
