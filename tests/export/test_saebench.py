import dataclasses

import pytest
import torch

from distsae import SAE
from distsae.errors import WrongInput
from distsae.export import BenchSAE
from distsae.model import SAEConfig


def _sae(**changes):
    cfg = SAEConfig(
        d_in=4, d_sae=8, k=2, allocation="token_choice", hook_name="blocks.3.resid_post", hook_layer=3,
        model_name="gpt2", context_size=16, prepend_bos=True,
    )  # fmt: skip
    return SAE(
        dataclasses.replace(cfg, **changes), torch.randn(4, 8), torch.randn(8, 4), torch.randn(8), torch.randn(4)
    )


@pytest.mark.parametrize("normalise", ["none", "token"])
def test_it_does_what_the_sae_does(normalise):
    sae = _sae(normalise=normalise)
    bench, x = BenchSAE(sae), torch.randn(2, 5, 4)
    torch.testing.assert_close(bench(x), sae(x))
    torch.testing.assert_close(bench.decode(bench.encode(x)), sae(x))
    assert bench.W_enc is sae.W_enc
    assert [tuple(part.shape) for part in (bench.W_dec, bench.b_enc, bench.b_dec)] == [(8, 4), (8,), (4,)]
    half = bench.to(torch.float16)
    assert (half.dtype, half.device.type) == (torch.float16, "cpu")


def test_its_config_is_in_the_words_of_transformer_lens_and_can_be_written():
    bench = BenchSAE(_sae())
    assert bench.cfg.hook_name == "blocks.3.hook_resid_post"
    bench.cfg.dtype = "float16"
    bench.cfg.device = "cuda:1"
    asked = {"d_in", "d_sae", "hook_name", "hook_layer", "model_name", "architecture", "dtype", "prepend_bos"}
    assert asked | {"context_size", "hook_head_index"} <= set(bench.cfg.to_dict())
    assert bench.cfg.to_dict()["dtype"] == "float16"


@pytest.mark.parametrize(
    "changes", [{"hook_name": "transformer.h.3", "hook_layer": 3}, {"hook_name": "", "hook_layer": None}]
)
def test_other_hooks_are_refused(changes):
    with pytest.raises(WrongInput, match="`sae` must be of a hook that TransformerLens has"):
        BenchSAE(_sae(**changes))
