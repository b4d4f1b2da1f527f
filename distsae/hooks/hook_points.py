"""Finds the hooks of transformer blocks in the model families of the transformers library.

Families name the same parts differently (`transformer.h.3.mlp.c_proj`, `model.layers.3.mlp.down_proj`). This module
maps the name of a hook (`blocks.3.mlp_hidden`) to the path of a module and one side of it, its input or its output.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

__all__ = ["KINDS", "HookPoint", "blocks_path", "hook_points"]

KINDS = ("resid_pre", "resid_post", "attn_out", "mlp_out", "mlp_hidden")
"""Kinds of hooks in a block, with their TransformerLens meaning."""

_ATTENTION = ("attn", "self_attn", "attention", "self_attention")
_MLP = ("mlp", "feed_forward", "ffn")
_MLP_PROJECTIONS = ("c_proj", "down_proj", "dense_4h_to_h", "fc_out", "fc2", "w2", "proj_out", "dense_out")
_ATTENTION_PROJECTIONS = ("dense", "out_proj", "o_proj", "c_proj")
_POST_NORMS = (  # (of attention, of the MLP) in blocks that normalise the outputs of both
    ("post_attention_layernorm", "post_feedforward_layernorm"),  # Gemma 2 and 3, OLMo 2 and 3, EXAONE 4
    ("post_self_attn_layernorm", "post_mlp_layernorm"),  # GLM 4
)

_Side = Literal["input", "output"]


@dataclass(frozen=True, kw_only=True)
class HookPoint:
    """One tensor of the forward pass: what enters a module, or what leaves it.

    Args:
        name: the hook's name, as the user gave it.
        module: path of the module in the model.
        side: `"input"` for the module's first argument, `"output"` for its (first) result.
    """

    name: str
    module: str
    side: _Side


def blocks_path(model: nn.Module) -> str | None:
    """Returns the path of the list of blocks, None if the model has no list of modules.

    It is a `ModuleList` with as many entries as the config has layers. Where no list has that length, it is the
    longest one. Of several such lists the outermost one is taken.
    """
    lists = [
        (len(module), -path.count("."), path)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
    ]
    expected = _layers_in_config(model)
    fitting = [entry for entry in lists if entry[0] == expected] or lists
    return max(fitting)[2] if fitting else None


def hook_points(model: nn.Module) -> dict[str, HookPoint]:
    """Returns every `blocks.N.KIND` hook that the model has, by name, in order of blocks."""
    path = blocks_path(model)
    points: dict[str, HookPoint] = {}
    if path is None:
        return points
    for index, block in enumerate(model.get_submodule(path).children()):
        for kind, (module, side) in _sides_in_block(block, f"{path}.{index}").items():
            name = f"blocks.{index}.{kind}"
            points[name] = HookPoint(name=name, module=module, side=side)
    return points


def _sides_in_block(block: nn.Module, path: str) -> dict[str, tuple[str, _Side]]:
    """Returns module path and side for each kind of hook that the block at `path` has, in the order of `KINDS`."""
    sides: dict[str, tuple[str, _Side]] = {"resid_pre": (path, "input"), "resid_post": (path, "output")}
    parts = dict(block.named_children())
    attention, mlp = _first_present(_ATTENTION, parts), _first_present(_MLP, parts)
    norms = next((pair for pair in _POST_NORMS if set(pair) <= parts.keys()), None)
    if attention is not None:
        added = norms[0] if norms else _adding_module(parts, attention, _ATTENTION_PROJECTIONS)
        sides["attn_out"] = (f"{path}.{added}", "output")
    if mlp is not None:
        added = norms[1] if norms else _adding_module(parts, mlp, _MLP_PROJECTIONS)
        sides["mlp_out"] = (f"{path}.{added}", "output")
        projection = _first_present(_MLP_PROJECTIONS, dict(parts[mlp].named_children()))
        if projection is not None:
            sides["mlp_hidden"] = (f"{path}.{mlp}.{projection}", "input")
    return {kind: sides[kind] for kind in KINDS if kind in sides}


def _adding_module(parts: dict[str, nn.Module], name: str, projections: tuple[str, ...]) -> str:
    """Returns the path, within the block, of the module whose output part `name` adds to the residual stream.

    In most families that is the part itself. In BLOOM and MPT the part receives the stream and returns the sum, so
    it is the last projection of the part.
    """
    receives_stream = "residual" in inspect.signature(parts[name].forward).parameters
    projection = _first_present(projections, dict(parts[name].named_children())) if receives_stream else None
    return name if projection is None else f"{name}.{projection}"


def _first_present(names: tuple[str, ...], parts: dict[str, nn.Module]) -> str | None:
    return next((name for name in names if name in parts), None)


def _layers_in_config(model: nn.Module) -> int | None:
    config: Any = getattr(model, "config", None)
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    layers = getattr(text_config, "num_hidden_layers", None)
    return int(layers) if layers is not None else None
