"""What a plan needs to know of a language model, from its configuration alone: its weights are not loaded.

The model is built without memory (on the meta device). What a token costs follows from the parameters that it passes
up to the hook, where a producer stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from distsae.errors import WrongInput
from distsae.hooks.forward_pass import resolve_hook
from distsae.hooks.hook_points import HookPoint, hook_points
from distsae.language_model.foreign_errors import WrongModel
from distsae.language_model.loading_report import quiet_transformers
from distsae.text.local_path import local_path

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["ModelShape", "model_shape"]


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model.

    Args:
        d_in: width of the activations at the hook.
        hook: the hook.
        parameters: parameters that a token passes up to there, embeddings left out; each is a multiplication and an
            addition.
    """

    d_in: int
    hook: str
    parameters: int


def model_shape(name_or_dir: str, hook: str | None = None) -> ModelShape:
    """Returns the sizes of a causal language model.

    Args:
        name_or_dir: folder written by `save_pretrained`, or the name of a Hugging Face repository, of which only the
            configuration is read.
        hook: hook whose activations are produced; None for the residual stream behind the middle block.

    Raises:
        WrongInput: there is no such model or hook, or transformers cannot build it.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    path = local_path(name_or_dir, "model")
    if path is not None and not (path / "config.json").is_file():
        raise WrongInput(
            f"`model` (={name_or_dir}) must be a folder with a config.json; got none; give `d_in` and "
            "`model_parameters` instead"
        )
    must = "be a causal language model that transformers knows"
    with quiet_transformers(), WrongModel(name_or_dir, must, "give `d_in` and `model_parameters` instead"):
        config = AutoConfig.from_pretrained(name_or_dir if path is None else path)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    if hook is None:
        streams = [name for name in hook_points(model) if name.endswith(".resid_post")]
        if not streams:
            raise WrongInput(f"`hook` must be given for the model {name_or_dir}; got none; name a module of it")
        hook = streams[(len(streams) - 1) // 2]
    return ModelShape(
        _width(model, config, hook, name_or_dir), hook, _parameters_before(model, resolve_hook(model, hook))
    )


def _width(model: nn.Module, config: PretrainedConfig, hook: str, name: str) -> int:
    """Returns the width of the residual stream, which is that of all hooks of a block but `mlp_hidden`."""
    if hook not in hook_points(model) or hook.endswith(".mlp_hidden"):
        raise WrongInput(
            f"`hook` (={hook}) must have the width of the residual stream where only `model` (={name}) is given; got "
            "another module; give `d_in` too"
        )
    return int(config.get_text_config().hidden_size)


def _parameters_before(model: nn.Module, point: HookPoint) -> int:
    """Returns the parameters that a token passes up to the hook, in the order in which modules are declared."""
    embedded = model.get_input_embeddings().weight  # type: ignore[operator]
    passed = 0
    reached = False
    for name, parameter in model.named_parameters():
        inside = f"{name}.".startswith(f"{point.module}.")
        if (reached and not inside) or (inside and point.side == "input"):
            break
        reached = inside
        if parameter is not embedded:
            passed += parameter.numel()
    return passed
