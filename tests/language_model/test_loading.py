import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from distsae.errors import WrongInput
from distsae.language_model import find_model, load_language_model


def test_loaded_ready_to_run(tiny_model_dir):
    loaded = load_language_model(str(tiny_model_dir), dtype=torch.bfloat16)
    assert not loaded.model.training
    assert loaded.model.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.revision == "local"
    assert loaded.tokenizer.eos_token == "<|endoftext|>"


def test_digests_do_not_depend_on_folder_or_dtype_but_on_the_weights(tiny_model_dir, tmp_path):
    first = load_language_model(str(tiny_model_dir))
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model_dir, copy)
    again = load_language_model(str(copy), dtype=torch.float16)
    assert (again.digest, again.tokenizer_digest) == (first.digest, first.tokenizer_digest)
    tensors = load_file(copy / "model.safetensors")
    tensors["transformer.ln_f.bias"][3] += 1e-3
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert find_model(str(copy)).digest != first.digest
    assert find_model(str(copy)).tokenizer_digest == first.tokenizer_digest


def test_missing_folder_and_folder_without_model(tmp_path, tiny_model_dir):
    with pytest.raises(WrongInput, match="nothing"):
        load_language_model(str(tmp_path / "missing"))
    with pytest.raises(WrongInput, match=r"without config\.json"):
        load_language_model(str(tmp_path))
    shutil.copy(tiny_model_dir / "config.json", tmp_path)
    with pytest.raises(WrongInput, match=r"tokenizer|weights"):
        load_language_model(str(tmp_path))
