"""Where the parts of a transformer block are, in the model families that transformers knows.

Families name the same parts differently (`transformer.h.3.mlp.c_proj`, `model.layers.3.mlp.down_proj`). This page
maps the field's words (`blocks.3.mlp_hidden`) to a module path and a side of that module.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal, NamedTuple

from torch import nn

__all__ = ["KINDS", "Place", "block_places", "blocks_path"]

KINDS = ("resid_pre", "resid_post", "attn_out", "mlp_out", "mlp_hidden")
"""The hooks of a block, with TransformerLens's meaning."""

_ATTENTION = ("attn", "self_attn", "attention", "self_attention")
_MLP = ("mlp", "feed_forward", "ffn")
_DOWN = ("c_proj", "down_proj", "dense_4h_to_h", "fc_out", "fc2", "w2", "proj_out", "dense_out")
_ATTENTION_DOWN = ("dense", "out_proj", "o_proj", "c_proj")
_POST_NORMS = (  # of attention and of the MLP, where the block normalises what they return
    ("post_attention_layernorm", "post_feedforward_layernorm"),  # Gemma 2 and 3, OLMo 2 and 3, EXAONE 4
    ("post_self_attn_layernorm", "post_mlp_layernorm"),  # GLM 4
)


class Place(NamedTuple):
    """A tensor of the forward pass: what goes into a module, or what comes out of it."""

    module: str
    side: Literal["input", "output"]


def blocks_path(model: nn.Module) -> str | None:
    """Returns the path of the list of blocks: the longest `ModuleList`, the outermost one of equals."""
    lists = [
        (len(module), -path.count("."), path)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
    ]
    expected = _layers_in_config(model)
    fitting = [entry for entry in lists if entry[0] == expected] or lists
    return max(fitting)[2] if fitting else None


def block_places(model: nn.Module) -> dict[str, Place]:
    """Returns every `blocks.N.KIND` that the model has, in order of blocks."""
    path = blocks_path(model)
    places: dict[str, Place] = {}
    if path is None:
        return places
    for number, block in enumerate(model.get_submodule(path).children()):
        for kind, place in _places_in_block(block, f"{path}.{number}").items():
            places[f"blocks.{number}.{kind}"] = place
    return places


def _places_in_block(block: nn.Module, path: str) -> dict[str, Place]:
    places = {"resid_pre": Place(path, "input"), "resid_post": Place(path, "output")}
    parts = dict(block.named_children())
    attention, mlp = _first(_ATTENTION, parts), _first(_MLP, parts)
    norms = next((pair for pair in _POST_NORMS if set(pair) <= parts.keys()), None)
    if attention is not None:
        added = norms[0] if norms else _adding(parts, attention, _ATTENTION_DOWN)
        places["attn_out"] = Place(f"{path}.{added}", "output")
    if mlp is not None:
        places["mlp_out"] = Place(f"{path}.{norms[1] if norms else _adding(parts, mlp, _DOWN)}", "output")
        down = _first(_DOWN, dict(parts[mlp].named_children()))
        if down is not None:
            places["mlp_hidden"] = Place(f"{path}.{mlp}.{down}", "input")
    return {kind: places[kind] for kind in KINDS if kind in places}


def _adding(parts: dict[str, nn.Module], name: str, down: tuple[str, ...]) -> str:
    """Returns the module whose output is what `name` adds to the stream.

    A module that is handed the stream returns it with its own part added (BLOOM, MPT); that part is what its last
    projection returns.
    """
    takes_stream = "residual" in inspect.signature(parts[name].forward).parameters
    projection = _first(down, dict(parts[name].named_children())) if takes_stream else None
    return name if projection is None else f"{name}.{projection}"


def _first(names: tuple[str, ...], parts: dict[str, nn.Module]) -> str | None:
    return next((name for name in names if name in parts), None)


def _layers_in_config(model: nn.Module) -> int | None:
    config: Any = getattr(model, "config", None)
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    layers = getattr(text_config, "num_hidden_layers", None)
    return int(layers) if layers is not None else None
