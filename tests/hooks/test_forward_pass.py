import pytest
import torch

from distsae.errors import WrongInput
from distsae.language_model import capture, hook_names, load_language_model, resolve_hook, splice


@pytest.fixture(scope="module")
def language_model(tiny_model_dir):
    return load_language_model(str(tiny_model_dir))


@pytest.fixture(scope="module")
def input_ids():
    return torch.randint(0, 280, (3, 17), generator=torch.Generator().manual_seed(0))


def test_residual_stream_equals_hidden_states(language_model, input_ids):
    with torch.inference_mode():
        hidden = language_model.model(input_ids=input_ids, output_hidden_states=True).hidden_states
    hooks = ["blocks.0.resid_pre", "blocks.0.resid_post", "blocks.1.resid_pre"]
    acts = capture(language_model.model, hooks, input_ids)
    torch.testing.assert_close(acts["blocks.0.resid_pre"], hidden[0], rtol=0, atol=0)
    torch.testing.assert_close(acts["blocks.0.resid_post"], hidden[1], rtol=0, atol=0)
    torch.testing.assert_close(acts["blocks.1.resid_pre"], hidden[1], rtol=0, atol=0)


def test_parts_of_a_block_add_up(language_model, input_ids):
    model = language_model.model
    acts = capture(
        model,
        [f"blocks.1.{kind}" for kind in ("resid_pre", "resid_post", "attn_out", "mlp_out", "mlp_hidden")],
        input_ids,
    )
    total = acts["blocks.1.resid_pre"] + acts["blocks.1.attn_out"] + acts["blocks.1.mlp_out"]
    torch.testing.assert_close(total, acts["blocks.1.resid_post"], rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        from_hidden = model.transformer.h[1].mlp.c_proj(acts["blocks.1.mlp_hidden"])
    torch.testing.assert_close(from_hidden, acts["blocks.1.mlp_out"], rtol=1e-5, atol=1e-5)


def test_module_path_means_the_output_of_the_module(language_model, input_ids):
    acts = capture(language_model.model, ["transformer.h.0.mlp", "blocks.0.mlp_out"], input_ids)
    torch.testing.assert_close(acts["transformer.h.0.mlp"], acts["blocks.0.mlp_out"], rtol=0, atol=0)


def test_resolved_hooks_are_captured_as_well(language_model, input_ids):
    names = ["blocks.1.mlp_out", "transformer.h.0"]
    by_name = capture(language_model.model, names, input_ids)
    resolved = capture(language_model.model, [resolve_hook(language_model.model, name) for name in names], input_ids)
    for name in names:
        torch.testing.assert_close(resolved[name], by_name[name], rtol=0, atol=0)


def test_forward_stops_after_the_last_hook(language_model, input_ids):
    block = language_model.model.transformer.h[0]
    language_model.model(input_ids=input_ids)  # transformers installs hooks of its own on the first call
    hooks_before = len(block._forward_hooks)
    ran = []
    handle = language_model.model.transformer.h[1].register_forward_pre_hook(lambda *_: ran.append(1))
    capture(language_model.model, ["blocks.0.resid_post", "blocks.0.attn_out"], input_ids)
    handle.remove()
    assert not ran
    with torch.inference_mode():  # the model runs to its end afterwards
        assert language_model.model(input_ids=input_ids).logits.shape == (3, 17, 280)
    assert len(block._forward_hooks) == hooks_before


@pytest.mark.parametrize("kind", ["resid_pre", "resid_post", "attn_out", "mlp_out", "mlp_hidden"])
def test_splice(language_model, input_ids, kind):
    model, hook = language_model.model, f"blocks.1.{kind}"
    with torch.inference_mode():
        clean = model(input_ids=input_ids).logits
        seen = []
        with splice(model, hook, lambda acts: (seen.append(acts), acts)[1]):
            same = model(input_ids=input_ids).logits
        with splice(model, hook, torch.zeros_like):
            zeroed = model(input_ids=input_ids).logits
        after = model(input_ids=input_ids).logits
    torch.testing.assert_close(same, clean, rtol=0, atol=0)
    torch.testing.assert_close(after, clean, rtol=0, atol=0)
    torch.testing.assert_close(seen[0], capture(model, [hook], input_ids)[hook], rtol=0, atol=0)
    assert (zeroed - clean).abs().max() > 1e-2


def test_splice_is_undone_after_an_error(language_model, input_ids):
    def fails(acts):
        raise ZeroDivisionError

    hooks_before = len(language_model.model.transformer.h[0].mlp._forward_hooks)
    with splice(language_model.model, "blocks.0.mlp_out", fails), pytest.raises(ZeroDivisionError):
        language_model.model(input_ids=input_ids)
    assert len(language_model.model.transformer.h[0].mlp._forward_hooks) == hooks_before


def test_unknown_hook_lists_those_that_exist(language_model):
    with pytest.raises(WrongInput, match=r"blocks\.0\.\.1\.resid_post.*did you mean 'blocks.1.resid_post'"):
        resolve_hook(language_model.model, "blocks.1.resid_pots")
    with pytest.raises(WrongInput, match=r"blocks\.7"):
        resolve_hook(language_model.model, "blocks.7.resid_post")
    with pytest.raises(WrongInput, match="exist in the model; use the path of a module"):
        resolve_hook(torch.nn.Linear(1, 1), "blocks.0.resid_post")
    assert len(hook_names(language_model.model)) == 10


def test_tensor_of_another_shape_is_refused(language_model, input_ids):
    with pytest.raises(WrongInput, match="batch, length, d"):
        capture(language_model.model, ["transformer.wpe"], input_ids)
