"""Text to activation stores: the language model's side of the pipeline."""

from __future__ import annotations

from distsae.producer.config import ProduceConfig
from distsae.producer.contexts import Contexts, pack
from distsae.producer.corpus import documents
from distsae.producer.hooks import HookPoint, capture, hook_widths, resolve_hook, splice
from distsae.producer.job import produce
from distsae.producer.language_model import LanguageModel, load_language_model

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
