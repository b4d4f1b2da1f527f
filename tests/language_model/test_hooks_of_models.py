"""Compares every hook with plain forward hooks on modules named here, in a forward pass that runs to its end."""

import itertools

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from distsae.language_model import capture, hook_names, load_language_model, resolve_hook

GPT2 = {
    "resid_pre": ("transformer.h.{}", "input"),
    "resid_post": ("transformer.h.{}", "output"),
    "attn_out": ("transformer.h.{}.attn", "output"),
    "mlp_out": ("transformer.h.{}.mlp", "output"),
    "mlp_hidden": ("transformer.h.{}.mlp.c_proj", "input"),
}
LLAMA = {
    "resid_pre": ("model.layers.{}", "input"),
    "resid_post": ("model.layers.{}", "output"),
    "attn_out": ("model.layers.{}.self_attn", "output"),
    "mlp_out": ("model.layers.{}.mlp", "output"),
    "mlp_hidden": ("model.layers.{}.mlp.down_proj", "input"),
}
SANDWICH = LLAMA | {
    "attn_out": ("model.layers.{}.post_attention_layernorm", "output"),
    "mlp_out": ("model.layers.{}.post_feedforward_layernorm", "output"),
}
NEOX = {
    "resid_pre": ("gpt_neox.layers.{}", "input"),
    "resid_post": ("gpt_neox.layers.{}", "output"),
    "attn_out": ("gpt_neox.layers.{}.attention", "output"),
    "mlp_out": ("gpt_neox.layers.{}.mlp", "output"),
    "mlp_hidden": ("gpt_neox.layers.{}.mlp.dense_4h_to_h", "input"),
}
BLOOM = {  # attention and MLP return the sum of the stream and their own output
    "resid_pre": ("transformer.h.{}", "input"),
    "resid_post": ("transformer.h.{}", "output"),
    "attn_out": ("transformer.h.{}.self_attention.dense", "output"),
    "mlp_out": ("transformer.h.{}.mlp.dense_4h_to_h", "output"),
    "mlp_hidden": ("transformer.h.{}.mlp.dense_4h_to_h", "input"),
}
MPT = BLOOM | {
    "resid_pre": ("transformer.blocks.{}", "input"),
    "resid_post": ("transformer.blocks.{}", "output"),
    "attn_out": ("transformer.blocks.{}.attn", "output"),
    "mlp_out": ("transformer.blocks.{}.ffn.down_proj", "output"),
    "mlp_hidden": ("transformer.blocks.{}.ffn.down_proj", "input"),
}
GLM4 = LLAMA | {
    "attn_out": ("model.layers.{}.post_self_attn_layernorm", "output"),
    "mlp_out": ("model.layers.{}.post_mlp_layernorm", "output"),
}
OPT = {
    "resid_pre": ("model.decoder.layers.{}", "input"),
    "resid_post": ("model.decoder.layers.{}", "output"),
    "attn_out": ("model.decoder.layers.{}.self_attn", "output"),
}
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 48, "vocab_size": 50, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
FAMILIES = {
    "llama": (SMALL, LLAMA),
    "qwen2": (SMALL, LLAMA),
    "mistral": (SMALL, LLAMA),
    "gemma": (SMALL, LLAMA),
    "phi": (SMALL, LLAMA | {"mlp_hidden": ("model.layers.{}.mlp.fc2", "input")}),  # attention and MLP in parallel
    "gpt_neox": (SMALL, NEOX),  # the same
    "gemma2": (SMALL, SANDWICH),
    "olmo2": (SMALL, SANDWICH),  # normalises the outputs of attention and MLP and nothing else
    "glm4": (SMALL, GLM4),
    "bloom": ({"hidden_size": 32, "n_layer": 3, "n_head": 2, "vocab_size": 50}, BLOOM),
    "mpt": ({"d_model": 32, "n_layers": 3, "n_heads": 2, "vocab_size": 50, "max_seq_len": 64}, MPT),
    "opt": (SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 32}, OPT),
}


def build(config, dtype=torch.float32, attention=None):
    """Returns a model whose weights are large enough for every part to matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.to(dtype).eval()


def gpt2(**changes):
    return GPT2Config(n_layer=5, n_embd=32, n_head=4, n_positions=64, vocab_size=50, **changes)


def tokens():
    return torch.randint(0, 50, (3, 17), generator=torch.Generator().manual_seed(0))


def plain(model, paths, blocks, **options):
    """Returns what plain forward hooks see in one whole forward pass, and the output of the model."""
    seen, handles = {}, []
    for number, (kind, (path, side)) in itertools.product(blocks, paths.items()):

        def keep(_, args, kwargs, output=None, name=f"blocks.{number}.{kind}", side=side):
            if side == "input":
                value = args[0] if args else kwargs["hidden_states"]
            else:
                value = output[0] if isinstance(output, tuple) else output
            seen[name] = value.detach().clone()

        module = model.get_submodule(path.format(number))
        handles.append(
            module.register_forward_pre_hook(keep, with_kwargs=True)
            if side == "input"
            else module.register_forward_hook(keep, with_kwargs=True)
        )
    with torch.no_grad():
        output = model(input_ids=tokens(), **options)
    for handle in handles:
        handle.remove()
    return seen, output


def check_all(model, paths, blocks):
    """Captures the hooks together, in any order and one by one, and compares them with plain hooks bit for bit."""
    expected, _ = plain(model, paths, blocks)
    names = list(expected)
    generator = torch.Generator().manual_seed(1)
    mixed = [names[index] for index in torch.randperm(len(names), generator=generator).tolist()]
    for order in (names, names[::-1], mixed, *([name] for name in names)):
        captured = capture(model, order, tokens())
        assert set(captured) == set(order)
        for name in order:
            assert captured[name].shape == (3, 17, expected[name].shape[-1])
            torch.testing.assert_close(captured[name], expected[name], rtol=0, atol=0, msg=name)
    again, _ = plain(model, paths, blocks)  # a forward pass that was cut short leaves the model unchanged
    for name in names:
        torch.testing.assert_close(again[name], expected[name], rtol=0, atol=0)
    return expected


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
        {"scale_attn_weights": False},
        {"tie_word_embeddings": False, "n_inner": 80, "activation_function": "relu"},
        {"activation_function": "silu", "layer_norm_epsilon": 1e-2},
    ],
    ids=lambda changes: ",".join(changes) or "as released",
)
def test_gpt2(changes, dtype, attention):
    model = build(gpt2(**changes), dtype, attention)
    expected = check_all(model, GPT2, (0, 2, 4))
    assert all(value.dtype == dtype for value in expected.values())
    assert expected["blocks.2.mlp_hidden"].shape[-1] == changes.get("n_inner", 128)
    _, output = plain(model, GPT2, (), output_hidden_states=True)
    for number in range(5):
        hook = f"blocks.{number}.resid_pre"
        torch.testing.assert_close(capture(model, [hook], tokens())[hook], output.hidden_states[number], rtol=0, atol=0)
    last = capture(model, ["blocks.4.resid_post"], tokens())["blocks.4.resid_post"]
    assert (last - output.hidden_states[5]).abs().max() > 0.1  # the model returns this one after its last LayerNorm
    with torch.no_grad():
        torch.testing.assert_close(model.transformer.ln_f(last), output.hidden_states[5], rtol=0, atol=0)


def test_settings_of_gpt2_change_what_is_captured(tmp_path):
    """Shows that the comparison above would notice a setting that is lost when the model is loaded."""
    hook, seen = "blocks.4.attn_out", []
    for number, changes in enumerate(({}, {"scale_attn_by_inverse_layer_idx": True}, {"activation_function": "relu"})):
        model = build(gpt2(**changes))
        model.save_pretrained(tmp_path / str(number))
        _tokenizer().save_pretrained(tmp_path / str(number))
        loaded = load_language_model(str(tmp_path / str(number))).model
        seen.append(capture(loaded, [hook], tokens())[hook])
        torch.testing.assert_close(seen[-1], plain(model, GPT2, [4])[0][hook], rtol=0, atol=0)
    assert min((a - b).abs().max().item() for a, b in itertools.combinations(seen, 2)) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_other_families(family, dtype):
    settings, paths = FAMILIES[family]
    model = build(AutoConfig.for_model(family, **settings), dtype)
    acts = check_all(model, paths, (0, 1, 2))
    assert {name for name in hook_names(model) if name.startswith("blocks.1.")} == {
        f"blocks.1.{kind}" for kind in paths
    }
    if "mlp_out" in paths and dtype == torch.float32:  # the outputs of the parts add up to the change of the stream
        for number in range(3):
            pre, attn, mlp, post = (
                acts[f"blocks.{number}.{kind}"] for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post")
            )
            torch.testing.assert_close(pre + attn + mlp, post, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "width", "heads"),
    [(12, 768, 12), (24, 1024, 16), (36, 1280, 20), (48, 1600, 25)],
    ids=["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"],
)
def test_released_sizes_of_gpt2(layers, width, heads):
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(n_layer=layers, n_embd=width, n_head=heads)).eval()
    names = [f"blocks.{number}.{kind}" for number in range(layers) for kind in GPT2]
    assert sorted(hook_names(model)) == sorted(names)
    modules = dict(model.named_modules())
    for number, (kind, (path, side)) in itertools.product(range(layers), GPT2.items()):
        point = resolve_hook(model, f"blocks.{number}.{kind}")
        assert (point.module, point.side) == (path.format(number), side)
        assert point.module in modules


def _tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(50)}, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w0", eos_token="w0", unk_token="w0")
