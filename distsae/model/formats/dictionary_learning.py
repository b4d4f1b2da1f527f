"""dictionary_learning: `ae.pt` with its weights, and `config.json` with the class that reads them.

Token Choice is its `AutoEncoderTopK`; one threshold for all features is its `BatchTopKSAE`, and one for each its
`JumpReluAutoEncoder`, which does not subtract `b_dec` from the input, so that `b_enc` has `b_dec @ W_enc` less there.
It normalises no rows itself. What does (`normalise: token`) cannot be written: bias and thresholds would have to grow
with the norm of each row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from distsae.checked_files import Between, WrongField, read_json_object, shown, typed
from distsae.checked_files.torch_archive import read_torch_archive
from distsae.errors import TornData, WrongInput
from distsae.model.formats.foreign_sae import (
    Exported,
    ForeignSAE,
    bias_in_scores,
    config_beside,
    one_dtype,
    read_extra,
    same_bias,
)
from distsae.model.formats.hook_spelling import from_submodule, to_submodule
from distsae.model.formats.tensor_writing import WrittenTensor, from_source, from_values
from distsae.model.formats.weight_source import MemoryWeights, WeightSource
from distsae.model.sae_config import SAEConfig

__all__ = ["CONFIG", "WEIGHTS", "exported", "read"]

CONFIG = "config.json"
WEIGHTS = "ae.pt"

_TRAINERS = {
    "AutoEncoderTopK": "TopKTrainer",
    "BatchTopKSAE": "BatchTopKTrainer",
    "JumpReluAutoEncoder": "JumpReluTrainer",
}
_LINEAR = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
_NAMES: dict[str, dict[str, str]] = {
    "AutoEncoder": {**_LINEAR, "bias": "b_dec"},
    "AutoEncoderNew": {**_LINEAR, "decoder.bias": "b_dec"},
    "AutoEncoderTopK": {**_LINEAR, "b_dec": "b_dec"},
    "BatchTopKSAE": {**_LINEAR, "b_dec": "b_dec"},
    "MatryoshkaBatchTopKSAE": {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")},
    "JumpReluAutoEncoder": {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")},
}
"""Names of the tensors of each class that is carried, and those here; `*.weight` is the transposed matrix."""

_SCALAR = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")
_ON_RAW_INPUT = ("AutoEncoderNew", "JumpReluAutoEncoder")
_UNIT = 1e-5


@dataclass(frozen=True, kw_only=True)
class DictionaryTrainer:
    """What `trainer` in `config.json` says."""

    dict_class: str
    k: Annotated[int, Between(1)] | None = None
    layer: int | None = None
    lm_name: str | None = None
    submodule_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class DictionaryBuffer:
    """What `buffer` in `config.json` says."""

    ctx_len: Annotated[int, Between(0)] | None = None


@dataclass(frozen=True, kw_only=True)
class DictionaryConfig:
    """The fields of `config.json` that matter here."""

    trainer: DictionaryTrainer
    buffer: DictionaryBuffer | None = None
    distsae: Any = None


def exported(cfg: SAEConfig, source: WeightSource, dtype: torch.dtype) -> Exported:
    """Returns what a folder of dictionary_learning gets.

    Raises:
        WrongInput: the SAE normalises rows.
    """
    if cfg.normalise == "token":
        raise WrongInput(
            "`to` (=dictionary_learning) must be a tool that can hold the SAE; got one that normalises each row, for "
            "which biases and thresholds would have to grow with the row's norm, and dictionary_learning's are fixed; "
            "use saelens, or train with another `normalise`"
        )
    threshold = source.rows("threshold", 0, cfg.d_sae) if cfg.architecture == "jumprelu" else None
    extra = {"quota_per_token": from_source(source, "quota_per_token")} if "quota_per_token" in source.names() else {}
    if threshold is not None and not bool((threshold == threshold[0]).all()):
        kind = "JumpReluAutoEncoder"
        tensors: dict[str, WrittenTensor] = {
            "W_enc": from_source(source, "W_enc", dtype),
            "b_enc": from_values(source.rows("b_enc", 0, cfg.d_sae).double() - bias_in_scores(source, dtype), dtype),
            "W_dec": from_source(source, "W_dec", dtype),
            "b_dec": from_source(source, "b_dec", dtype),
            "threshold": from_values(threshold, dtype),
        }
        extra["b_enc"] = from_source(source, "b_enc", dtype)
    else:
        kind = "AutoEncoderTopK" if threshold is None else "BatchTopKSAE"
        tensors = {
            "k": from_values(torch.tensor(cfg.k, dtype=torch.int32)),
            "threshold": from_values(torch.tensor(-1.0) if threshold is None else threshold[0].float()),
            "decoder.weight": from_source(source, "W_dec", dtype, transposed=True),
            "encoder.weight": from_source(source, "W_enc", dtype, transposed=True),
            "encoder.bias": from_source(source, "b_enc", dtype),
            "b_dec": from_source(source, "b_dec", dtype),
        }
    trainer = {
        "trainer_class": _TRAINERS[kind],
        "dict_class": kind,
        "activation_dim": cfg.d_in,
        "dict_size": cfg.d_sae,
        "k": cfg.k,
        "layer": cfg.hook_layer,
        "lm_name": cfg.model_name,
        "submodule_name": to_submodule(cfg.hook_name),
    }
    buffer = {"d_submodule": cfg.d_in, "io": "out", "ctx_len": cfg.context_size}
    document = {"trainer": trainer, "buffer": buffer, "distsae": cfg.to_dict()}
    return Exported(weights=WEIGHTS, container="torch", tensors=tensors, documents={CONFIG: document}, extra=extra)


def read(folder: Path) -> ForeignSAE:
    """Reads an SAE of dictionary_learning.

    Raises:
        WrongInput: it is of a class that cannot be carried; the text names it.
        TornData: a file is damaged; the text names it.
    """
    try:
        config = typed(DictionaryConfig, read_json_object(folder / CONFIG))
    except (WrongField, WrongInput) as error:
        raise TornData(f"{folder / CONFIG} is not the config of dictionary_learning: {error}") from None
    kind = config.trainer.dict_class
    if kind not in _NAMES:
        raise WrongInput(
            f"{folder} must be an SAE that can be carried over, of the class {', '.join(_NAMES)}; got {shown(kind)}; "
            "use dictionary_learning itself"
        )
    file = folder / WEIGHTS
    content = read_torch_archive(file)
    tensors = _ours(content, file, kind)
    d_in, d_sae = tensors["W_enc"].shape
    if kind in _SCALAR:
        tensors["threshold"] = _one_threshold(content, file).to(tensors["W_enc"].dtype).expand(d_sae).clone()
    elif kind.startswith("AutoEncoder") and kind != "AutoEncoderTopK":
        tensors["threshold"] = torch.zeros(d_sae, dtype=tensors["W_enc"].dtype)
    own = config_beside(config.distsae, folder / CONFIG, d_in, d_sae)
    extra = read_extra(folder, d_sae)
    if kind in _ON_RAW_INPUT:
        dtype = tensors["W_enc"].dtype
        folded = tensors["b_enc"].double() + bias_in_scores(MemoryWeights(tensors), dtype)
        kept = extra.get("b_enc") if own is not None else None
        exact = kept is not None and same_bias(kept, folded, tensors["b_enc"])
        tensors["b_enc"] = kept if kept is not None and exact else folded.to(dtype)
    if kind == "AutoEncoder":
        _fold_norms(tensors)
    if own is not None and "quota_per_token" in extra:
        tensors["quota_per_token"] = extra["quota_per_token"]
    return ForeignSAE(
        tool="dictionary_learning",
        folder=folder,
        tensors=tensors,
        k=_budget(config.trainer.k, content, file) if kind in (*_SCALAR, "AutoEncoderTopK") else None,
        hook=None if config.trainer.submodule_name is None else from_submodule(config.trainer.submodule_name),
        model=config.trainer.lm_name or "",
        context_size=(config.buffer.ctx_len or 0) if config.buffer is not None else 0,
        own=own,
    )


def _ours(content: dict[str, Tensor], file: Path, kind: str) -> dict[str, Tensor]:
    """Returns the tensors of a class by the names here, the matrices as they are here."""
    names = _NAMES[kind]
    encoder = next(name for name, ours in names.items() if ours == "W_enc")
    shape = tuple(content[encoder].shape) if encoder in content else ()
    if len(shape) != 2:
        raise TornData(f"{file} must have a matrix `{encoder}`; got {', '.join(map(ascii, list(content)[:8]))}")
    d_in, d_sae = shape if encoder == "W_enc" else shape[::-1]
    sizes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,)}
    sizes["threshold"] = (d_sae,)
    needed = {name: sizes[ours][::-1] if name.endswith(".weight") else sizes[ours] for name, ours in names.items()}
    found = one_dtype(content, file, needed)
    return {ours: found[name].t() if name.endswith(".weight") else found[name] for name, ours in names.items()}


def _one_threshold(content: dict[str, Tensor], file: Path) -> Tensor:
    """Returns the threshold of all features; -1, with which a short training ends, lets every positive score pass."""
    threshold = content.get("threshold")
    if threshold is None or threshold.numel() != 1 or not bool(threshold.isfinite().all()):
        raise TornData(f"{file} must have one finite `threshold`; got {'none' if threshold is None else 'another'}")
    return threshold.reshape(()).clamp(min=0)


def _budget(k: int | None, content: dict[str, Tensor], file: Path) -> int:
    kept = content.get("k")
    if kept is None or kept.numel() != 1 or kept.is_floating_point():
        if k is None:
            raise TornData(f"{file} must have `k`; got none, and none in {CONFIG}")
        return k
    if (k is not None and int(kept) != k) or int(kept) < 1:
        raise TornData(f"{file} must have the `k` of its {CONFIG}; got {int(kept)} and {k}")
    return int(kept)


def _fold_norms(tensors: dict[str, Tensor]) -> None:
    """Makes decoder rows as long as 1, as `AutoEncoder.from_pretrained` does with rows that are not."""
    norms = torch.linalg.vector_norm(tensors["W_dec"].float(), dim=1)
    if bool(((norms - 1).abs() <= _UNIT).all()) or not bool((norms > 0).all()):
        return
    norms = norms.to(tensors["W_dec"].dtype)
    tensors["W_dec"] = tensors["W_dec"] / norms[:, None]
    tensors["W_enc"] = tensors["W_enc"] * norms
    tensors["b_enc"] = tensors["b_enc"] * norms
