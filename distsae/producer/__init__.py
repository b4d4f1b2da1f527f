"""Text to activation stores: the language model's side of the pipeline."""

from __future__ import annotations

from distsae.language_model.hooks import HookPoint, capture, hook_widths, resolve_hook, splice
from distsae.language_model.loading import LanguageModel, load_language_model
from distsae.producer.config import ProduceConfig
from distsae.producer.produce import produce
from distsae.text.contexts import Contexts, pack
from distsae.text.corpus import documents

__all__ = [
    "Contexts",
    "HookPoint",
    "LanguageModel",
    "ProduceConfig",
    "capture",
    "documents",
    "hook_widths",
    "load_language_model",
    "pack",
    "produce",
    "resolve_hook",
    "splice",
]
