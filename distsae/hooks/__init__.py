"""Hooks of a transformers model: what their names mean, and how activations there are read or replaced."""

from distsae.hooks.forward_pass import activations_at, capture, hook_names, observed, resolve_hook, splice
from distsae.hooks.hook_points import KINDS, HookPoint, blocks_path, hook_points

__all__ = [
    "KINDS",
    "HookPoint",
    "activations_at",
    "blocks_path",
    "capture",
    "hook_names",
    "hook_points",
    "observed",
    "resolve_hook",
    "splice",
]
