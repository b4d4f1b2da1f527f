import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from distsae.language_model import output_head

SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50, "max_position_embeddings": 16}


def _model(kind, width=8):
    sizes = {"hidden_size": width, "intermediate_size": 16, "num_key_value_heads": 2, "head_dim": 4, "pad_token_id": 0}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SMALL, **sizes)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or "ln_f" in name:
                weight.add_(torch.rand_like(weight))
    return model


@pytest.mark.parametrize(("kind", "centres"), [("gpt2", True), ("llama", False), ("gemma2", False), ("gpt_neox", True)])
def test_the_effect_is_that_of_norm_and_unembedding(kind, centres):
    """The derivative of the logits along a direction, at an input whose scale in the norm does not change."""
    model = _model(kind)
    head = output_head(model)
    assert head.centres == centres
    base = model.base_model
    norm = base.ln_f if kind == "gpt2" else base.final_layer_norm if kind == "gpt_neox" else base.norm
    signs = torch.tensor([1.0, -1.0] * 4)
    direction = torch.randn(8)
    across = direction - signs * (direction @ signs) / 8  # leaves the scale as it is, to first order
    _, change = torch.func.jvp(lambda x: model.get_output_embeddings()(norm(x[None])[0]), (signs,), (across,))
    torch.testing.assert_close(head.effects(across[None])[0], change, rtol=1e-3, atol=1e-5)


def test_an_odd_width():
    norm = nn.LayerNorm(7)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(1.0, 8.0))
        norm.bias.copy_(torch.randn(7))

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.norm, self.head = nn.ModuleList([nn.Identity()] * 3), norm, nn.Linear(7, 5, bias=False)

        def get_output_embeddings(self):
            return self.head

    head = output_head(Odd())
    torch.testing.assert_close(head.gain, norm.weight.detach(), rtol=1e-4, atol=1e-4)
    assert head.centres


def test_a_model_without_unembedding_or_norm():
    assert output_head(nn.Linear(2, 2)) is None
    model = _model("llama")
    model.model.norm = nn.Identity()
    torch.testing.assert_close(output_head(model).gain, torch.ones(8))
    del model.model.norm
    torch.testing.assert_close(output_head(model).gain, torch.ones(8))
