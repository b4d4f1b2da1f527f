"""Copies of a model with something wrong in their files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

RANDOM_CODE = """
import random
from transformers import GPT2Config, GPT2LMHeadModel

class RandomConfig(GPT2Config):
    model_type = "random-gpt2"

class RandomModel(GPT2LMHeadModel):
    config_class = RandomConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = 10 ** random.SystemRandom().uniform(0, 3)

    def forward(self, input_ids=None, **others):
        return super().forward(inputs_embeds=self.scale * self.transformer.wte(input_ids), **others)
"""
"""Code of a model that is another one each time that it is loaded, though its files stay the same."""


def copied(model: Path, to: Path) -> Path:
    """Copies a model's folder and returns the copy."""
    shutil.copytree(model, to)
    return to


def with_config(model: Path, **changes: object) -> Path:
    """Changes entries of `config.json`."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))
    return model


def with_weights(model: Path, changed: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """Replaces the tensors of `model.safetensors`."""
    save_file(changed(load_file(model / "model.safetensors")), model / "model.safetensors", metadata={"format": "pt"})
    return model


def with_code(model: Path, code: str = RANDOM_CODE) -> Path:
    """Gives a model code of its own."""
    (model / "modeling_random.py").write_text(code)
    classes = {"AutoConfig": "modeling_random.RandomConfig", "AutoModelForCausalLM": "modeling_random.RandomModel"}
    return with_config(model, model_type="random-gpt2", architectures=["RandomModel"], auto_map=classes)
