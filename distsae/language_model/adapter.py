"""A PEFT adapter as a language model: its base with the adapter merged into the weights.

An adapter is a folder with changes to the weights of another model, which its config names. Merged, it is a model like
any other. Its identity is that of both: the digest of the base and the digest of the adapter.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distsae.errors import WrongInput
from distsae.language_model.foreign_errors import WrongModel
from distsae.language_model.model_folder import read_config
from distsae.language_model.split_model import input_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Adapter", "find_adapter", "merged"]

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")  # in peft's order of preference
_VOLATILE = ("base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping")
"""Keys without an effect on the merged weights; the base is known by its digest."""

_TOKENS = 16
"""Tokens on which the merged model is compared with the adapter on its base."""

_ALLOWED = {True: 1e-3, False: 0.1}
"""Distance of their predictions by whether the model is fp32: what rounds in another order."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """The files of an adapter.

    Args:
        folder: folder of the files.
        base: name or folder of its base model, as its config has it.
        base_revision: branch, tag or commit of the base's repository; None for its default branch.
        digest: SHA-256 of weights and configuration, hexadecimal.
    """

    folder: Path
    base: str
    base_revision: str | None
    digest: str


def find_adapter(folder: Path, name: str) -> Adapter | None:
    """Returns the adapter in a folder; None if there is a whole model, or none.

    Args:
        folder: folder of the files.
        name: name or folder that the user gave.

    Raises:
        WrongInput: the peft library is missing, the config names no base, or there are no weights.
    """
    if (folder / "config.json").is_file() or not (folder / _CONFIG).is_file():
        return None
    if find_spec("peft") is None:
        raise WrongInput(
            f"`model` (={name}) must be merged into its base by the peft package, as it is an adapter; got none; "
            "install `distsae[peft]`"
        )
    config = read_config(folder, name, _CONFIG)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base or not isinstance(revision, str | None):
        raise WrongInput(
            f"`model` (={name}) must name its base as `base_model_name_or_path` in {_CONFIG}; got none; write it there"
        )
    weights = next((folder / file for file in _WEIGHTS if (folder / file).is_file()), None)
    if weights is None:
        raise WrongInput(f"`model` (={name}) must hold {_WEIGHTS[0]}; got an adapter without weights; save it again")
    digest = hashlib.sha256(json.dumps({k: config[k] for k in sorted(config) if k not in _VOLATILE}).encode())
    with WrongModel(name, "hold weights that can be read", "save the adapter again"), weights.open("rb") as opened:
        digest.update(hashlib.file_digest(opened, "sha256").digest())
    return Adapter(folder=folder, base=base, base_revision=revision or None, digest=digest.hexdigest())


def merged(model: PreTrainedModel, adapter: Adapter, name: str) -> PreTrainedModel:
    """Returns the base model with the adapter's changes in its weights, as peft merges them, in the dtype of the base.

    Args:
        model: the base, loaded; it is changed.
        adapter: the adapter.
        name: name or folder that the user gave.

    Raises:
        WrongInput: the adapter does not fit the base, or is of a kind that cannot be merged.
    """
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    with (
        WrongModel(name, "be an adapter that fits its base", "use it with the base that it was trained on"),
        warnings.catch_warnings(action="ignore"),  # what they are about is refused below
    ):
        config = PeftConfig.from_pretrained(str(adapter.folder))
        whole = not config.is_prompt_learning and PeftModel.from_pretrained(model, str(adapter.folder), config=config)
        if not whole or not hasattr(whole, "merge_and_unload"):
            raise WrongInput(
                f"`model` (={name}) must be an adapter that can be merged into weights, such as LoRA; got one of the "
                f"kind {getattr(config.peft_type, 'value', config.peft_type)}; use another"
            )
        # What the files lack stays as it was made, at random or zero; peft only warns of that.
        own = set(get_peft_model_state_dict(whole, save_embedding_layers=False))
        given = set(load_peft_weights(str(adapter.folder), device="cpu"))
        if differing := (own - given) | (given - own - set(whole.state_dict())):  # whole embeddings may come along
            raise WrongInput(
                f"`model` (={name}) must be an adapter that fits its base; got {min(differing)}, which only one of the "
                "two has; use it with the base that it was trained on"
            )
        whole.eval()
        before = _logits(whole)
        result: PreTrainedModel = whole.merge_and_unload(safe_merge=True)
        distance = float((_logits(result) - before).norm() / before.norm())
    if not distance <= _ALLOWED[result.dtype == torch.float32]:  # NaN is refused too
        raise WrongInput(
            f"`model` (={name}) must give the same with its adapter merged; got predictions that differ by "
            f"{distance:.1%}, as those of an adapter on tied embeddings do; untie them and save the merged model"
        )
    return result


def _logits(model: nn.Module) -> Tensor:
    device = input_device(model)
    with torch.inference_mode():
        logits: Tensor = model(input_ids=torch.arange(_TOKENS, device=device)[None], use_cache=False).logits
    return logits.float().cpu()
