"""What an SAE of another tool becomes here, and what is given where its files say nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from distsae.errors import TornData, WrongInput
from distsae.model.formats.foreign_sae import (
    EXTRA,
    ForeignSAE,
    Given,
    bias_in_scores,
    config_beside,
    one_dtype,
    read_extra,
    same_bias,
)
from distsae.model.formats.weight_source import MemoryWeights
from tests.model.formats.samples import D_IN, D_SAE, K, config, sample_sae


def _foreign(rule="mutual_choice", **changes):
    tensors = dict(sample_sae(rule).state_dict())
    return ForeignSAE(tool="a tool", folder=Path("folder"), tensors=tensors, **changes)


def test_what_is_given_is_taken_before_what_the_files_say():
    said = _foreign(k=7, hook="blocks.1.mlp_out", model="m", context_size=32, prepend_bos=False)
    cfg = said.config(Given())
    assert (cfg.k, cfg.hook_name, cfg.hook_layer, cfg.model_name) == (7, "blocks.1.mlp_out", 1, "m")
    assert (cfg.context_size, cfg.prepend_bos, cfg.allocation) == (32, False, "mutual_choice")
    given = Given(k=3, hook="blocks.2.resid_pre", model="n", context_size=64, prepend_bos=True)
    cfg = said.config(given)
    assert (cfg.k, cfg.hook_name, cfg.hook_layer, cfg.model_name) == (3, "blocks.2.resid_pre", 2, "n")
    assert (cfg.context_size, cfg.prepend_bos) == (64, True)
    own = _foreign(own=config())
    assert own.config(Given()) == config()
    assert own.config(given).model_name == "n"


def test_a_budget_is_needed_and_cannot_be_guessed():
    with pytest.raises(WrongInput, match="`k` must be given for folder"):
        _foreign().config(Given())
    assert _foreign("token_choice", k=4).config(Given()).allocation == "token_choice"


@pytest.mark.parametrize("changes", [{"normalise": "token"}, {"k": K + 1}])
def test_a_config_that_is_not_of_the_weights(changes):
    with pytest.raises(TornData, match="another rule, budget or normalisation"):
        _foreign(own=config(), **changes).config(Given())
    with pytest.raises(TornData, match="another rule"):
        _foreign("token_choice", own=config()).config(Given())


def test_a_config_beside_the_weights():
    content = config().to_dict()
    assert config_beside(content, Path("f"), D_IN, D_SAE) == config()
    assert config_beside(None, Path("f"), D_IN, D_SAE) is None
    with pytest.raises(TornData, match="f has a config of distsae for d_in 12 and d_sae 50; got other weights"):
        config_beside(content, Path("f"), D_IN, D_SAE + 1)
    with pytest.raises(TornData, match=r"f has a config of distsae that cannot be read: `distsae.k` must be"):
        config_beside({**content, "k": "five"}, Path("f"), D_IN, D_SAE)


def test_the_bias_in_the_scores():
    sae = sample_sae()
    expected = sae.b_dec.double() @ sae.W_enc.double()
    found = bias_in_scores(MemoryWeights(sae.state_dict()), torch.float32)
    torch.testing.assert_close(found, expected.detach())
    rounded = sae.bfloat16()
    expected = rounded.b_dec.double() @ rounded.W_enc.double()
    torch.testing.assert_close(
        bias_in_scores(MemoryWeights(sample_sae().state_dict()), torch.bfloat16), expected.detach()
    )


def test_the_same_bias():
    bias = torch.randn(50).double()
    assert same_bias(bias.float(), bias, bias.float())
    assert same_bias(bias.bfloat16(), bias, bias)
    assert not same_bias((bias + 1).float(), bias, bias)


def test_tensors_get_one_dtype_and_are_looked_at():
    tensors = {"a": torch.ones(2, 3), "b": torch.ones(3).bfloat16(), "other": torch.ones(1).int()}
    found = one_dtype(tensors, Path("f"), {"a": (2, 3), "b": (3,)})
    assert {name: tensor.dtype for name, tensor in found.items()} == {"a": torch.float32, "b": torch.float32}
    for needed, words in (
        ({"c": (1,)}, "f must have the tensor `c`; got 'a', 'b', 'other'"),
        ({"a": (3, 2)}, "f must have `a` of shape"),
        ({"other": (1,)}, "f must have a floating-point `other`"),
    ):
        with pytest.raises(TornData, match=words):
            one_dtype(tensors, Path("f"), needed)


def test_extra_tensors(tmp_path):
    assert read_extra(tmp_path, 3) == {}
    save_file({"b_enc": torch.arange(3.0)}, tmp_path / EXTRA)
    assert read_extra(tmp_path, 3)["b_enc"].tolist() == [0, 1, 2]
    with pytest.raises(TornData, match="with 4 numbers"):
        read_extra(tmp_path, 4)
    save_file({"W_enc": torch.arange(3.0)}, tmp_path / EXTRA)
    with pytest.raises(TornData, match="got 'W_enc'"):
        read_extra(tmp_path, 3)
    save_file({"b_enc": torch.tensor([1.0, float("inf"), 0.0])}, tmp_path / EXTRA)
    with pytest.raises(TornData, match="must have finite weights"):
        read_extra(tmp_path, 3)
