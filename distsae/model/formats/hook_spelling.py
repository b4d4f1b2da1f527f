"""Names of hooks as other tools spell them: TransformerLens, dictionary_learning, sparsify."""

from __future__ import annotations

import re

__all__ = ["from_hookpoint", "from_submodule", "from_transformer_lens", "to_submodule", "to_transformer_lens"]

_LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "mlp.hook_post": "mlp_hidden",
}
"""What is behind `blocks.N.` in TransformerLens, and here."""

_OURS = {ours: theirs for theirs, ours in _LENS.items()}
_HOOKPOINT = re.compile(r"(?:model\.|transformer\.)?(?:layers|h|blocks)\.(\d+)(?:\.(\w+))?")
_MODULES = {
    None: "resid_post",
    "mlp": "mlp_out",
    "attn": "attn_out",
    "attention": "attn_out",
    "self_attn": "attn_out",
}
"""Modules of a block as sparsify names their outputs, and the hook here."""

_SUBMODULES = {"resid_post": "resid_post", "attn_out": "attn_out", "mlp_out": "mlp_out"}


def from_transformer_lens(name: str) -> str:
    """Returns the hook that TransformerLens calls `name`; `name` itself if it is not one that is known here."""
    found = re.fullmatch(r"(blocks\.\d+)\.(.+)", name)
    return f"{found[1]}.{_LENS[found[2]]}" if found and found[2] in _LENS else name


def to_transformer_lens(name: str) -> str:
    """Returns what TransformerLens calls a hook; `name` itself if it has none like it."""
    found = re.fullmatch(r"(blocks\.\d+)\.(\w+)", name)
    return f"{found[1]}.{_OURS[found[2]]}" if found and found[2] in _OURS else name


def from_hookpoint(name: str) -> str | None:
    """Returns the hook of a module whose output sparsify names by its path, as `layers.5.mlp`; None if unknown."""
    found = _HOOKPOINT.fullmatch(name)
    return f"blocks.{found[1]}.{_MODULES[found[2]]}" if found and found[2] in _MODULES else None


def from_submodule(name: str) -> str | None:
    """Returns the hook of a submodule as dictionary_learning names it, as `resid_post_layer_5`; None if unknown."""
    found = re.fullmatch(r"(\w+)_layer_(\d+)", name)
    return f"blocks.{found[2]}.{_SUBMODULES[found[1]]}" if found and found[1] in _SUBMODULES else None


def to_submodule(name: str) -> str:
    """Returns a hook as dictionary_learning names submodules, as `resid_post_layer_5`; else `name` itself."""
    found = re.fullmatch(r"blocks\.(\d+)\.(\w+)", name)
    return f"{found[2]}_layer_{found[1]}" if found else name
