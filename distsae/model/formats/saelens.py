"""SAELens from version 6 on: `cfg.json` and `sae_weights.safetensors`; older configs are read as well.

Its `topk` and `jumprelu` are the frozen rules here, and it subtracts `b_dec` from the input if the config says so. So
an SAE is written as it is. With `constant_norm_rescale` it brings each row to the norm `sqrt(d_in)` and the
reconstruction back, as an SAE with `normalise: token` does; its feature activations are then those of the normalised
row, where ours are those of the raw one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from distsae.checked_files import Between, WrongField, read_json_object, shown, typed
from distsae.errors import TornData, WrongInput
from distsae.model.formats.foreign_sae import (
    Exported,
    ForeignSAE,
    config_beside,
    one_dtype,
    read_extra,
    read_tensors,
)
from distsae.model.formats.hook_spelling import from_transformer_lens, to_transformer_lens
from distsae.model.formats.tensor_writing import from_source
from distsae.model.formats.weight_source import WeightSource
from distsae.model.sae_config import SAEConfig

__all__ = ["CONFIG", "WEIGHTS", "exported", "read"]

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"

_VERSION = "6.0.0"
"""Oldest version that reads what is written here; with an older one in it, nested metadata would be ignored."""

_OLD_NAMES = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
_NORMALISATIONS = {"none": "none", "constant_norm_rescale": "token"}
_ADVICE = {
    "expected_average_only_in": "fold it into the weights first, by SAELens's fold_activation_norm_scaling_factor",
    "covariance_whitening": "fold it into the weights first, by SAELens's fold_activation_whitening",
}


@dataclass(frozen=True, kw_only=True)
class SAELensConfig:
    """The fields of `cfg.json` that matter here, with its metadata, in the names of version 6."""

    d_in: Annotated[int, Between(1)]
    d_sae: Annotated[int, Between(1)]
    architecture: str = "standard"
    k: Annotated[int, Between(1)] | None = None
    rescale_acts_by_decoder_norm: bool = False
    apply_b_dec_to_input: bool = True
    normalize_activations: str | bool | None = None
    reshape_activations: str = "none"
    activation_fn: str = "relu"
    activation_fn_kwargs: dict[str, Any] | None = None
    hook_name: str | None = None
    hook_name_out: str | None = None
    hook_head_index: int | None = None
    model_name: str | None = None
    context_size: Annotated[int, Between(0)] | None = None
    prepend_bos: bool | None = None
    model_from_pretrained_kwargs: dict[str, Any] | None = None
    distsae: Any = None

    @property
    def centres_model(self) -> bool:
        """Whether the SAE is for activations without their mean over the width, as TransformerLens makes them."""
        return (self.model_from_pretrained_kwargs or {}).get("center_writing_weights") is True


def exported(cfg: SAEConfig, source: WeightSource, dtype: torch.dtype) -> Exported:
    """Returns what a folder of SAELens gets."""
    jumprelu = cfg.architecture == "jumprelu"
    names = ("W_enc", "W_dec", "b_enc", "b_dec", *(("threshold",) if jumprelu else ()))
    content = {
        "architecture": cfg.architecture,
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        "dtype": cfg.dtype,
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "constant_norm_rescale" if cfg.normalise == "token" else "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": _VERSION,
            "sae_lens_training_version": None,
            "model_name": cfg.model_name,
            "hook_name": to_transformer_lens(cfg.hook_name),
            "hook_layer": cfg.hook_layer,
            "context_size": cfg.context_size,
            "prepend_bos": cfg.prepend_bos,
            "distsae": cfg.to_dict(),
        },
    }
    if not jumprelu:
        content |= {"k": cfg.k, "rescale_acts_by_decoder_norm": False}
    extra = {"quota_per_token": from_source(source, "quota_per_token")} if "quota_per_token" in source.names() else {}
    return Exported(
        weights=WEIGHTS,
        container="safetensors",
        tensors={name: from_source(source, name, dtype) for name in names},
        documents={CONFIG: content},
        extra=extra,
    )


def read(
    folder: Path, *, overrides: Mapping[str, Any] | None = None, scaling_factor: float | None = None
) -> ForeignSAE:
    """Reads an SAE of SAELens.

    Args:
        folder: folder of the files.
        overrides: fields that replace those of its config.
        scaling_factor: number that activations are to be multiplied by, for a config that asks for one; it is folded
            into the weights.

    Raises:
        WrongInput: it is of a kind that cannot be carried; the text names it.
        TornData: a file is damaged; the text names it.
    """
    config = _config(folder / CONFIG, overrides or {})
    if scaling_factor is not None and config.normalize_activations == "expected_average_only_in":
        config = dataclasses.replace(config, normalize_activations="none")
    else:
        scaling_factor = None
    normalise = _carried(config, folder)
    d_in, d_sae = config.d_in, config.d_sae
    needed: dict[str, tuple[int, ...]] = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": (d_sae,)}
    needed["b_dec"] = (d_in,)
    if config.architecture == "jumprelu":
        needed["threshold"] = (d_sae,)
    file = folder / WEIGHTS
    content = read_tensors(file)
    scaling = content.get("scaling_factor")
    if scaling is not None and not bool((scaling == 1).all()):
        raise _refused(folder, "a scaling factor per feature from fine-tuning")
    tensors = one_dtype(content, file, needed)
    if config.rescale_acts_by_decoder_norm and config.architecture == "topk":
        _fold_norms(tensors)
    if not config.apply_b_dec_to_input:
        folded = tensors["b_enc"].double() + tensors["b_dec"].double() @ tensors["W_enc"].double()
        tensors["b_enc"] = folded.to(tensors["W_enc"].dtype)
    if scaling_factor is not None:
        _fold_scaling(tensors, scaling_factor)
    if config.centres_model:
        _fold_centring(tensors)
    if config.architecture == "standard":
        tensors["threshold"] = torch.zeros(d_sae, dtype=tensors["W_enc"].dtype)
    own = config_beside(config.distsae, folder / CONFIG, d_in, d_sae)
    extra = read_extra(folder, d_sae)
    if own is not None and "quota_per_token" in extra:
        tensors["quota_per_token"] = extra["quota_per_token"]
    return ForeignSAE(
        tool="SAELens",
        folder=folder,
        tensors=tensors,
        k=config.k,
        normalise=normalise,
        hook=None if config.hook_name is None else from_transformer_lens(config.hook_name),
        model=config.model_name or "",
        context_size=config.context_size or 0,
        prepend_bos=config.prepend_bos is not False,
        own=own,
    )


def _config(file: Path, overrides: Mapping[str, Any]) -> SAELensConfig:
    """Returns the config in the form of version 6, whatever version wrote it."""
    content = read_json_object(file)
    metadata = content.get("metadata") or {}
    merged: dict[str, Any] = {}
    for part in (content, metadata) if isinstance(metadata, Mapping) else (content,):
        merged |= {_OLD_NAMES.get(name, name): value for name, value in part.items()}
    merged |= overrides
    try:
        config = typed(SAELensConfig, merged)
        if config.activation_fn == "topk" and config.k is None:
            merged |= {"architecture": "topk", "k": (config.activation_fn_kwargs or {}).get("k")}
            config = typed(SAELensConfig, merged)
    except (WrongField, WrongInput) as error:
        raise TornData(f"{file} is not the config of an SAE of SAELens: {error}") from None
    return config


def _carried(config: SAELensConfig, folder: Path) -> str:
    """Returns the normalisation of an SAE that can be carried.

    Raises:
        WrongInput: it is of another kind.
    """
    if config.architecture not in ("standard", "topk", "jumprelu"):
        raise _refused(folder, f"the architecture {shown(config.architecture)}")
    if config.architecture == "topk" and config.k is None:
        raise TornData(f"{folder / CONFIG} must have the `k` of a topk SAE; got none")
    if config.hook_name_out not in (None, config.hook_name):
        raise _refused(folder, f"a transcoder, from {shown(config.hook_name)} to {shown(config.hook_name_out)}")
    if config.reshape_activations not in ("none", "") or config.hook_head_index is not None:
        raise _refused(folder, f"activations of heads (reshape_activations {shown(config.reshape_activations)})")
    name = config.normalize_activations
    if isinstance(name, bool):
        name = "expected_average_only_in" if name else "none"
    name = name or "none"
    if name not in _NORMALISATIONS:
        raise _refused(folder, f"normalize_activations {shown(name)}", _ADVICE.get(name))
    if config.centres_model and name != "none":
        raise _refused(folder, f"normalize_activations {shown(name)} on activations of center_writing_weights")
    return _NORMALISATIONS[name]


def _refused(folder: Path, what: str, advice: str | None = None) -> WrongInput:
    return WrongInput(
        f"{folder} must be an SAE that can be carried over: standard, topk or jumprelu on raw activations; got {what}; "
        f"{advice or 'use SAELens itself'}"
    )


def _fold_norms(tensors: dict[str, Tensor]) -> None:
    """Makes decoder rows as long as 1, in place, for an SAE that multiplies scores by their norms itself."""
    norms = torch.linalg.vector_norm(tensors["W_dec"].float(), dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    for name in ("W_enc", "b_enc"):
        tensors[name].mul_(norms.to(tensors[name].dtype))
    tensors["W_dec"].div_(norms[:, None].to(tensors["W_dec"].dtype))


def _fold_scaling(tensors: dict[str, Tensor], factor: float) -> None:
    """Makes an SAE of activations that are multiplied by `factor` one of those that are not, in place."""
    tensors["W_enc"].mul_(factor)
    tensors["W_dec"].div_(factor)
    tensors["b_dec"].div_(factor)


def _fold_centring(tensors: dict[str, Tensor]) -> None:
    """Lets the encoder subtract each row's mean over the width itself, in place.

    `(C x - b_dec) @ W` is `(x - b_dec) @ C W + (C b_dec - b_dec) @ W`, where `C` subtracts the mean.
    """
    W_enc, b_dec = tensors["W_enc"].double(), tensors["b_dec"].double()
    bias = tensors["b_enc"].double() - b_dec.mean() * W_enc.sum(0)
    tensors["b_enc"] = bias.to(tensors["b_enc"].dtype)
    tensors["W_enc"] = (W_enc - W_enc.mean(0)).to(tensors["W_enc"].dtype)
