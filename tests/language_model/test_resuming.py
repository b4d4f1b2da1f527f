"""Passes without the lower blocks against whole passes, bit for bit, in every family and at every hook."""

import pytest
import torch
from transformers import AutoConfig

from distsae.language_model import LowerBlocks, block_count, blocks_below, resolve_hook, splice
from tests.language_model.test_hooks_of_models import FAMILIES, GPT2, build, gpt2, tokens

MODELS = FAMILIES | {"gpt2": ({"n_layer": 3, "n_embd": 32, "n_head": 2, "n_positions": 64, "vocab_size": 50}, GPT2)}


def model_of(family):
    return build(AutoConfig.for_model(family, **MODELS[family][0]))


def logits(model, point=None, replace=None):
    with torch.no_grad():
        if point is None:
            return model(input_ids=tokens(), use_cache=False).logits
        with splice(model, point, replace):
            return model(input_ids=tokens(), use_cache=False).logits


def forget_positions(acts):
    """Changes most positions and leaves the first as it is, as evaluation does."""
    changed = 0.5 * acts.flip(0) + 0.1
    changed[:, 0] = acts[:, 0]
    return changed


@pytest.mark.parametrize("family", MODELS)
def test_every_hook_as_in_a_whole_pass(family):
    model = model_of(family)
    clean = logits(model)
    hooks = [f"blocks.{number}.{kind}" for number in range(3) for kind in MODELS[family][1]]
    hooks += [resolve_hook(model, "blocks.2.attn_out").module, resolve_hook(model, "blocks.1.resid_post").module]
    for hook in hooks:
        point = resolve_hook(model, hook)
        below = blocks_below(model, point)
        whole = logits(model, point, forget_positions)
        assert (whole - clean).abs().max() > 1e-4, hook
        if below == 0:
            assert hook.startswith("blocks.0.")
            assert not hook.endswith("resid_post")
            continue
        lower = LowerBlocks(model, below)
        with lower.observed() as seen:
            assert torch.equal(logits(model), clean)
        (hidden,) = seen
        kept = hidden.clone()
        for _ in range(2):  # a pass must not change what the next one starts from
            with lower.skipped(hidden):
                assert torch.equal(logits(model), clean), hook
                assert torch.equal(logits(model, point, forget_positions), whole), hook
        assert torch.equal(hidden, kept)
        assert torch.equal(logits(model), clean)  # and the model runs whole again


def test_skipped_blocks_do_not_run_and_upper_ones_do():
    model, ran = model_of("llama"), []
    for number, block in enumerate(model.model.layers):
        block.mlp.register_forward_hook(lambda *_, number=number: ran.append(number))
    lower = LowerBlocks(model, 2)
    with lower.observed() as seen:
        logits(model)
    ran.clear()
    with lower.skipped(seen[0]):
        logits(model)
    assert ran == [2]


def test_all_blocks_may_be_skipped():
    model = model_of("gpt2")
    lower = LowerBlocks(model, block_count(model))
    with lower.observed() as seen:
        clean = logits(model)
    with lower.skipped(seen[0]):
        assert torch.equal(logits(model), clean)


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        ("blocks.0.resid_pre", 0),
        ("blocks.0.resid_post", 1),
        ("blocks.2.resid_pre", 2),
        ("blocks.2.mlp_hidden", 2),
        ("blocks.2.resid_post", 3),
        ("transformer.h.2", 3),
        ("transformer.h.2.mlp.c_proj", 2),
        ("transformer.wte", 0),
        ("transformer.ln_f", 0),
    ],
)
def test_blocks_below_a_hook(hook, expected):
    model = build(gpt2())
    assert blocks_below(model, resolve_hook(model, hook)) == expected


def test_a_model_without_blocks():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    assert block_count(model) == 0
    assert blocks_below(model, resolve_hook(model, "0")) == 0


def test_blocks_that_return_something_else_are_not_observed():
    model = build(gpt2())
    model.transformer.h[1].register_forward_hook(lambda *_: {"hidden_states": _[2]})
    model.transformer.h[2].register_forward_pre_hook(lambda _, args: (args[0]["hidden_states"], *args[1:]))
    with LowerBlocks(model, 3).observed() as seen:
        logits(model)
    assert seen == []


def test_a_forward_of_its_own_comes_back_after_an_error():
    model = build(gpt2())
    block = model.transformer.h[0]
    own = block.forward
    block.forward = own
    lower = LowerBlocks(model, 1)
    with lower.observed() as seen:
        logits(model)
    with pytest.raises(ZeroDivisionError), lower.skipped(seen[0]):
        raise ZeroDivisionError
    assert vars(block)["forward"] is own
    assert "forward" not in vars(model.transformer.h[1])
