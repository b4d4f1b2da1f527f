import builtins
import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file

from distsae.errors import WrongInput
from distsae.language_model import find_model, load_language_model
from distsae.language_model.model_folder import code_digest, read_config, refuse_unusable
from tests.language_model.changed_models import copied, with_code, with_config, with_weights


@pytest.fixture
def model(tiny_model_dir, tmp_path):
    return copied(tiny_model_dir, tmp_path / "model")


@pytest.fixture
def code_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def _refused(model, match, **given):
    with pytest.raises(WrongInput, match=match) as raised:
        load_language_model(str(model), **given)
    assert len(str(raised.value).splitlines()) == 1
    assert str(raised.value).startswith(f"`model` (={model}) must ")


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_adapters_are_refused_whether_or_not_peft_is_there(model, file):
    (model / file).write_text("{}")
    _refused(model, rf"without adapters beside its weights; got {file}; put the adapter into a folder of its own")


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", "mxfp4"])
def test_quantised_models_are_refused_by_their_method(model, method):
    with_config(model, quantization_config={"quant_method": method, "bits": 4})
    _refused(model, rf"weights that are not quantised; got {method}; use the model from which it was made")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.uint8])
def test_quantised_weights_are_refused_without_the_config_as_well(model, dtype):
    key = "transformer.h.0.mlp.c_fc.weight"
    with_weights(model, lambda weights: weights | {key: weights[key].to(dtype)})
    _refused(model, rf"not quantised; got {key} in ")


def test_integers_that_are_no_weights_are_not_refused(model):
    with_weights(model, lambda weights: weights | {"transformer.h.0.attn.bias": torch.ones(3, dtype=torch.uint8)})
    refuse_unusable(model, "m", read_config(model, "m"))


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"\xff" * 1000, None], ids=["empty", "zeros", "ones", "cut"])
def test_damaged_weights_are_one_line(model, content):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    _refused(model, r"must hold whole weights \(model.safetensors\); got .*Error: .*; save the model again")


@pytest.mark.parametrize(
    "config",
    [b"", b"[]", b"{", b"\xff{", b'{"model_type": "nobody-knows"}', b'{"model_type": 3}', b"{}", b"null"],
)
def test_damaged_configs_are_one_line(model, config):
    (model / "config.json").write_bytes(config)
    _refused(model, "; (save the model again|use another model)$")


@pytest.mark.parametrize(
    "change",
    [{"n_layer": "two"}, {"n_embd": -4}, {"n_head": 0}, {"activation_function": "x"}, {"model_type": "clip"}],
)
def test_impossible_configs_are_one_line(model, change):
    _refused(with_config(model, **change), "; use another model$")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"a": 1}', '{"version": "1.0", "model": 3}'])
@pytest.mark.parametrize("file", ["tokenizer.json", "model.safetensors.index.json", "generation_config.json"])
def test_damaged_json_files_are_one_line_or_unimportant(model, file, content):
    if "index" in file:
        (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    (model / file).write_text(content)
    if file == "generation_config.json" and not content.startswith("["):
        load_language_model(str(model))
    else:
        _refused(model, "; (save the tokenizer there|use another model|save the whole model.*)$")


def _pickled(model, content):
    (model / "model.safetensors").unlink()
    torch.save(content, model / "pytorch_model.bin")
    return model


class _Runs:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_pickled_weights_load_but_run_nothing(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = load_file(model / "model.safetensors")
    _pickled(model, weights)
    assert torch.equal(load_language_model(str(model)).model.transformer.wpe.weight, weights["transformer.wpe.weight"])
    torch.save(weights | {"more": _Runs()}, model / "pytorch_model.bin")
    _refused(model, "a pickle that is damaged, or holds more than tensors; save the weights as safetensors")
    assert not (tmp_path / "made-by-a-pickle").exists()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps([1, 2]))
    _refused(model, "; (use another model|save the weights as safetensors)$")


def test_code_of_a_model_is_never_asked_about_and_runs_only_with_the_key(model, code_cache, monkeypatch):
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("a prompt"))
    with_code(model)
    _refused(model, "needs code of its own, which must not run unasked; read its code, then set --trust_remote_code")
    loaded = load_language_model(str(model), trust_remote_code=True)
    assert type(loaded.model).__name__ == "RandomModel"
    assert loaded.code_digest == find_model(str(model), trust_remote_code=True).code_digest is not None
    (model / "modeling_random.py").write_text((model / "modeling_random.py").read_text() + "\n# changed\n")
    assert find_model(str(model), trust_remote_code=True).code_digest != loaded.code_digest


def test_a_model_without_code_has_no_digest_of_it(model):
    assert load_language_model(str(model), trust_remote_code=True).code_digest is None


@pytest.mark.parametrize(
    ("code", "message"),
    [("import no_such_package\n", "no_such_package.*; install what it names"), ("1 / 0\n", "division by zero")],
)
def test_code_that_fails_is_one_line(model, code_cache, code, message):
    _refused(with_code(model, code), message, trust_remote_code=True)


def test_code_of_another_repository_is_refused_since_its_digest_is_unknown(model):
    config = read_config(with_config(model, auto_map={"AutoConfig": "some/where--code.Config"}), "m")
    with pytest.raises(WrongInput, match=r"must hold its own code.*some/where--code.Config of another repository"):
        code_digest(model, "m", config)
    load_language_model(str(model))  # transformers has a class of its own for this model, so that no code runs


def test_the_tokenizers_code_counts_too(model):
    (model / "tok.py").write_text("")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(
        json.dumps(settings | {"auto_map": {"AutoTokenizer": ["tok.T", None]}})
    )
    assert code_digest(model, "m", read_config(model, "m")) is not None
