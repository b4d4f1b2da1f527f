"""PEFT adapters: merged as peft merges them, known by both digests, refused where they cannot be merged."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from distsae.errors import WrongInput
from distsae.language_model import adapter, capture, find_model, load_language_model

HOOK = "blocks.1.resid_post"
IDS = torch.arange(40, 56).reshape(2, 8)


def _saved(base, folder, config, seed=0):
    """An adapter of a kind, with random weights, as peft saves it."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(seed)
    made = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in made.named_parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn_like(parameter)
            assert "lora" in name or "ia3" in name or "prompt" in name
    made.save_pretrained(folder)
    return made


@pytest.fixture
def lora(tiny_model_dir, tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=3, lora_alpha=6, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, task_type="CAUSAL_LM"
    )
    made = _saved(tiny_model_dir, tmp_path / "lora", config)
    return tmp_path / "lora", made


def test_activations_are_those_of_peft(lora, tiny_model_dir):
    folder, made = lora
    loaded = load_language_model(str(folder))
    assert loaded.name == str(folder)
    assert loaded.revision == "local"
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    ours = capture(loaded.model, [HOOK], IDS)[HOOK]
    plain = capture(load_language_model(str(tiny_model_dir)).model, [HOOK], IDS)[HOOK]
    with torch.no_grad():
        theirs = made(IDS, output_hidden_states=True)
        torch.testing.assert_close(loaded.model(IDS).logits, theirs.logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours, plain, atol=0.1)
    name = "transformer.h.0.attn.c_attn"
    weights = load_file(folder / "adapter_model.safetensors")
    A, B = (weights[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    expected = AutoModelForCausalLM.from_pretrained(tiny_model_dir).get_submodule(name).weight + 2 * (B @ A).T
    torch.testing.assert_close(loaded.model.get_submodule(name).weight, expected)
    assert loaded.model.dtype == torch.float32
    half = load_language_model(str(folder), dtype=torch.bfloat16).model
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_identity_is_that_of_both(lora, tiny_model_dir, tmp_path):
    folder, _ = lora
    files, base = find_model(str(folder)), find_model(str(tiny_model_dir))
    assert files.adapter.base == str(tiny_model_dir)
    assert files.digest == load_language_model(str(folder)).digest != base.digest
    assert files.tokenizer_digest == base.tokenizer_digest
    moved = shutil.copytree(tiny_model_dir, tmp_path / "moved")
    config = folder / "adapter_config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"base_model_name_or_path": str(moved), "peft_version": "1"}))
    assert find_model(str(folder)).digest == files.digest
    config.write_text(json.dumps(content | {"lora_alpha": 7}))
    assert find_model(str(folder)).digest != files.digest
    config.write_text(json.dumps(content))
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    tensors[min(tensors)][0] += 1
    save_file(tensors, weights)
    assert find_model(str(folder)).digest != files.digest


def test_a_tokenizer_of_its_own(lora, tiny_model_dir):
    folder, _ = lora
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(folder)
    files = find_model(str(folder))
    assert "<think>" in files.tokenizer.get_vocab()
    assert files.tokenizer_digest != find_model(str(tiny_model_dir)).tokenizer_digest


def test_weights_that_do_not_fit(lora, tiny_model_dir):
    folder, _ = lora
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    some = min(tensors)
    save_file({name: tensor for name, tensor in tensors.items() if name != some}, weights)
    with pytest.raises(WrongInput, match=rf"must be an adapter that fits its base; got {some}, which only one of"):
        load_language_model(str(folder))
    save_file(tensors | {some.replace("h.0", "h.7"): tensors[some].clone()}, weights)
    with pytest.raises(WrongInput, match=r"must be an adapter that fits its base; got .*h\.7.*, which only one of"):
        load_language_model(str(folder))
    save_file(tensors | {some: torch.zeros(5, 5)}, weights)
    with pytest.raises(WrongInput, match=r"must be an adapter that fits its base; got RuntimeError"):
        load_language_model(str(folder))
    weights.write_bytes(b"nothing")
    with pytest.raises(WrongInput, match="must be an adapter that fits its base"):
        load_language_model(str(folder))
    weights.unlink()
    with pytest.raises(WrongInput, match=r"must hold adapter_model.safetensors; got an adapter without weights"):
        find_model(str(folder))


@pytest.mark.parametrize("base", ["", None, 3, ["a"]])
def test_an_adapter_of_nothing(lora, base):
    folder, _ = lora
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": base}))
    with pytest.raises(WrongInput, match=r"must name its base as `base_model_name_or_path` in adapter_config.json"):
        find_model(str(folder))


def test_a_base_that_is_gone_or_an_adapter(lora, tmp_path):
    folder, _ = lora
    config = folder / "adapter_config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"base_model_name_or_path": "/gone"}))
    with pytest.raises(WrongInput, match=rf"`model` \(=/gone\) .*\(the base of the adapter {folder}; its adapter_conf"):
        find_model(str(folder))
    config.write_text(json.dumps(content))
    second = shutil.copytree(folder, tmp_path / "second")
    (second / "adapter_config.json").write_text(json.dumps(content | {"base_model_name_or_path": str(folder)}))
    with pytest.raises(WrongInput, match=r"must be an adapter of a whole model; got one of the adapter .*merge that"):
        find_model(str(second))


CASES = {
    "modules_to_save": {"target_modules": ["c_attn"], "modules_to_save": ["ln_f"]},
    "dora": {"target_modules": ["c_attn"], "use_dora": True},
    "rslora and bias": {"target_modules": ["c_attn"], "use_rslora": True, "bias": "lora_only"},
    "tokens": {"target_modules": ["c_attn"], "trainable_token_indices": [3, 5]},
}


@pytest.mark.parametrize(("kind", "whole_embeddings"), [*((kind, False) for kind in (*CASES, "ia3")), ("dora", True)])
def test_other_kinds_do_what_they_do_unmerged(tiny_model_dir, tmp_path, kind, whole_embeddings):
    peft = pytest.importorskip("peft")
    config = (
        peft.IA3Config(target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True)
        if kind == "ia3"
        else peft.LoraConfig(fan_in_fan_out=True, **CASES[kind])
    )
    torch.manual_seed(3)
    made = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model_dir), config).eval()
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn_like(parameter)
    made.save_pretrained(tmp_path, save_embedding_layers=whole_embeddings)
    with torch.no_grad():
        expected = made(IDS).logits
        torch.testing.assert_close(load_language_model(str(tmp_path)).model(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    assert load_language_model(str(tmp_path), dtype=torch.bfloat16)


def test_an_adapter_of_tied_embeddings_is_another_model_when_merged(tiny_model_dir, tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["wte"], task_type="CAUSAL_LM")
    _saved(tiny_model_dir, tmp_path / "a", config)
    with pytest.raises(WrongInput, match=r"must give the same with its adapter merged; got .* differ by \d+\.\d%, as"):
        load_language_model(str(tmp_path / "a"))


def test_a_kind_that_cannot_be_merged(tiny_model_dir, tmp_path):
    peft = pytest.importorskip("peft")
    _saved(tiny_model_dir, tmp_path / "p", peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(WrongInput, match=r"must be an adapter that can be merged .* the kind PROMPT_TUNING"):
        load_language_model(str(tmp_path / "p"))


def test_without_peft(tiny_model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(adapter, "find_spec", lambda _: None)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tiny_model_dir)}))
    with pytest.raises(WrongInput, match=r"by the peft package, .*; got none; install `distsae\[peft\]`"):
        find_model(str(tmp_path))
    assert find_model(str(tiny_model_dir)).adapter is None


def test_in_a_model_that_is_split(lora):
    folder, _ = lora
    whole = capture(load_language_model(str(folder)).model, [HOOK], IDS)[HOOK]
    split = capture(load_language_model(str(folder), device_map={"": "cpu"}).model, [HOOK], IDS)[HOOK]
    assert torch.equal(split, whole)
    away = {"transformer.wte": "cpu", "transformer.wpe": "cpu", "transformer.h.0": "cpu", "transformer.h.1": "disk"}
    with pytest.raises(WrongInput, match=r"must keep all weights on GPUs or the CPU .*transformer\.h\.1\..* elsewhere"):
        load_language_model(str(folder), device_map=away | {"transformer.ln_f": "disk", "lm_head": "cpu"})
