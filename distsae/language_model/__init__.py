"""A language model of the transformers library: loading it, reading and replacing activations at its hooks."""

from __future__ import annotations

from distsae.hooks.forward_pass import capture, hook_names, resolve_hook, splice
from distsae.hooks.hook_points import HookPoint
from distsae.language_model.loading import LanguageModel, load_language_model
from distsae.language_model.model_files import ModelFiles, find_model
from distsae.language_model.model_of_store import model_of_store
from distsae.language_model.output_head import OutputHead, output_head
from distsae.language_model.probe import hook_widths
from distsae.language_model.resuming import LowerBlocks, block_count, blocks_below
from distsae.language_model.split_model import DeviceMap, input_device, refuse_map, refuse_shared_gpus
from distsae.language_model.stored_activations import refuse_another_model

__all__ = [
    "DeviceMap",
    "HookPoint",
    "LanguageModel",
    "LowerBlocks",
    "ModelFiles",
    "OutputHead",
    "block_count",
    "blocks_below",
    "capture",
    "find_model",
    "hook_names",
    "hook_widths",
    "input_device",
    "load_language_model",
    "model_of_store",
    "output_head",
    "refuse_another_model",
    "refuse_map",
    "refuse_shared_gpus",
    "resolve_hook",
    "splice",
]
