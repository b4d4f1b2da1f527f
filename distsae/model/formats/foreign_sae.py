"""An SAE between two formats: what is written for another tool, and what was read from one.

The frozen rule here is `relu(s) * (s > threshold)` with `s = (x - b_dec) @ W_enc + b_enc`, or the `k` largest positive
`s` of each row. Every tool's rule is one of these, once its biases are folded.

A folder that distsae writes also has the SAE's config, so that it comes back as it was. Tensors that a tool's weights
have no place for are in a file of their own beside them.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from distsae.checked_files import WrongField, typed
from distsae.checked_files.safetensors_file import SafetensorsFile
from distsae.errors import TornData, WrongInput
from distsae.model.formats.tensor_writing import WrittenTensor
from distsae.model.formats.weight_source import WeightSource, row_blocks
from distsae.model.sae_config import SAEConfig
from distsae.model.sae_digest import DTYPES, refuse_broken
from distsae.model.training_rule import AllocationName

__all__ = [
    "EXTRA",
    "Exported",
    "ForeignSAE",
    "Given",
    "bias_in_scores",
    "config_beside",
    "one_dtype",
    "read_extra",
    "read_tensors",
    "same_bias",
]

EXTRA = "distsae.safetensors"
"""File of the tensors that a tool's own weights have no place for."""

_CLOSE = 1e-2
"""Share of the largest bias by which one may differ after rounding, to bf16 at worst."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Exported:
    """What a tool's folder gets.

    Args:
        weights: file of the weights.
        container: kind of that file.
        tensors: tensors in it, by the tool's names.
        documents: JSON files by name.
        extra: tensors for `EXTRA`.
        digested: JSON file that gets the sha256 of the weights; None if none does.
    """

    weights: str
    container: Literal["safetensors", "torch"]
    tensors: dict[str, WrittenTensor]
    documents: dict[str, dict[str, Any]]
    extra: dict[str, WrittenTensor] = field(default_factory=dict)
    digested: str | None = None


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user says of an SAE whose files do not say it; what is None is taken from the files.

    Args:
        k: mean matches per token.
        hook: hook of the activations.
        model: name of the language model.
        context_size: number of tokens in a context.
        prepend_bos: whether contexts begin with the BOS token.
    """

    k: int | None = None
    hook: str | None = None
    model: str | None = None
    context_size: int | None = None
    prepend_bos: bool | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class ForeignSAE:
    """An SAE that was read from another tool's files.

    Args:
        tool: name of the tool.
        folder: folder of the files.
        tensors: tensors of an SAE here, by name.
        k: mean matches per token; None if the files do not say it.
        normalise: normalisation that the SAE does itself: none or token.
        hook: hook of the activations; None if the files do not say it.
        model: name of the language model; empty if the files do not say it.
        context_size: number of tokens in a context; 0 if the files do not say it.
        prepend_bos: whether contexts begin with the BOS token.
        own: config that distsae has written with the files; None for an SAE of somebody else.
    """

    tool: str
    folder: Path
    tensors: dict[str, Tensor]
    k: int | None = None
    normalise: str = "none"
    hook: str | None = None
    model: str = ""
    context_size: int = 0
    prepend_bos: bool = True
    own: SAEConfig | None = None

    def config(self, given: Given) -> SAEConfig:
        """Returns the config of the SAE here.

        A tool's SAE with thresholds becomes one of Mutual Choice: its frozen rule is the tool's own. Only its batch
        rule, which `distsae evaluate` compares with the frozen one, needs the budget `k`.

        Raises:
            WrongInput: the files do not say `k`, and it is not given.
            TornData: the config that distsae has written is not of these weights.
        """
        if self.own is not None:
            kind = ("threshold" in self.tensors, self.normalise == "token", self.k if self.k else self.own.k)
            if kind != (self.own.architecture == "jumprelu", self.own.normalise == "token", self.own.k):
                raise TornData(
                    f"{self.folder} must have the config of distsae that its weights were written with; got one of "
                    "another rule, budget or normalisation"
                )
            said: dict[str, Any] = {
                "k": given.k,
                "hook_name": given.hook,
                "model_name": given.model,
                "context_size": given.context_size,
                "prepend_bos": given.prepend_bos,
            }
            return dataclasses.replace(self.own, **{name: value for name, value in said.items() if value is not None})
        k = self.k if given.k is None else given.k
        if k is None:
            raise WrongInput(
                f"`k` must be given for {self.folder}, because thresholds do not say how many features fire; got none; "
                "give `k`, or run `distsae import` with the store to measure it on"
            )
        hook = (self.hook or "") if given.hook is None else given.hook
        layer = re.search(r"\.(\d+)(?:\.|$)", hook)
        d_in, d_sae = self.tensors["W_enc"].shape
        allocation: AllocationName = "mutual_choice" if "threshold" in self.tensors else "token_choice"
        return SAEConfig(
            d_in=d_in,
            d_sae=d_sae,
            k=k,
            allocation=allocation,
            hook_name=hook,
            hook_layer=int(layer[1]) if layer else None,
            model_name=self.model if given.model is None else given.model,
            context_size=self.context_size if given.context_size is None else given.context_size,
            prepend_bos=self.prepend_bos if given.prepend_bos is None else given.prepend_bos,
            dtype=DTYPES[self.tensors["W_enc"].dtype],
            normalise=self.normalise,
        )


def bias_in_scores(source: WeightSource, dtype: torch.dtype) -> Tensor:
    """Returns `b_dec @ W_enc`, fp64 `[d_sae]`: what a tool that does not subtract `b_dec` first has in its bias.

    Args:
        source: the weights.
        dtype: dtype that the tool's weights are rounded to.
    """
    b_dec = source.rows("b_dec", 0, source.shape("b_dec")[0]).to(dtype).double()
    total = torch.zeros(source.shape("W_enc")[1], dtype=torch.float64)
    for first, rows in row_blocks(source, "W_enc"):
        total += b_dec[first : first + len(rows)] @ rows.to(dtype).double()
    return total


def config_beside(content: object, file: Path, d_in: int, d_sae: int) -> SAEConfig | None:
    """Returns the config that distsae has written into a tool's JSON file, None if there is none.

    Args:
        content: what is under `distsae` in the file.
        file: the file, for the error.
        d_in: width of the tool's weights.
        d_sae: number of features of the tool's weights.

    Raises:
        TornData: it is no config of an SAE, or of another one.
    """
    if content is None:
        return None
    try:
        cfg = typed(SAEConfig, content, "distsae")
    except (WrongField, WrongInput) as error:
        raise TornData(f"{file} has a config of distsae that cannot be read: {error}") from None
    if (cfg.d_in, cfg.d_sae) != (d_in, d_sae):
        raise TornData(f"{file} has a config of distsae for d_in {cfg.d_in} and d_sae {cfg.d_sae}; got other weights")
    return cfg


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Returns all tensors of a safetensors file, on the CPU.

    Raises:
        TornData: it is damaged; the text names it.
    """
    with SafetensorsFile(file) as opened:
        return {name: opened.tensor(name) for name in opened.entries}


def read_extra(folder: Path, d_sae: int) -> dict[str, Tensor]:
    """Returns the tensors in `EXTRA`, each one number a feature; none if there is no such file.

    Raises:
        TornData: it is damaged, or of another SAE; the text names it.
    """
    file = folder / EXTRA
    if not file.is_file():
        return {}
    tensors = read_tensors(file)
    for name, tensor in tensors.items():
        if name not in ("b_enc", "quota_per_token") or tuple(tensor.shape) != (d_sae,) or tensor.dtype not in DTYPES:
            raise TornData(f"{file} must have `b_enc` or `quota_per_token` with {d_sae} numbers; got {name!a}")
    refuse_broken(file, tensors)
    return tensors


def one_dtype(tensors: dict[str, Tensor], file: Path, needed: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Returns tensors in the widest dtype of theirs, after a look at names, shapes and values.

    Args:
        tensors: tensors by the tool's names.
        file: file that they are from, for the error.
        needed: shape of each tensor that the SAE needs; others are left out.

    Raises:
        TornData: one is missing, has another shape, no floating-point numbers, or some that are not finite.
    """
    found: dict[str, Tensor] = {}
    for name, shape in needed.items():
        if name not in tensors:
            raise TornData(f"{file} must have the tensor `{name}`; got {', '.join(map(ascii, list(tensors)[:8]))}")
        if tuple(tensors[name].shape) != shape:
            raise TornData(f"{file} must have `{name}` of shape {shape}; got {tuple(tensors[name].shape)}")
        if tensors[name].dtype not in DTYPES:
            raise TornData(f"{file} must have a floating-point `{name}`; got {tensors[name].dtype}")
        found[name] = tensors[name]
    refuse_broken(file, found)
    dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in found.values()))
    return {name: tensor.to(dtype) for name, tensor in found.items()}


def same_bias(kept: Tensor, found: Tensor, written: Tensor) -> bool:
    """Returns whether a bias that was kept beside the weights is the one that they have, up to rounding.

    Args:
        kept: the bias beside the weights.
        found: the bias as it follows from the weights.
        written: the bias in the weights, which was rounded.
    """
    scale = float(torch.maximum(found.abs(), written.double().abs()).max().clamp(min=1e-12))
    return bool((kept.double() - found).abs().max() <= _CLOSE * scale)
