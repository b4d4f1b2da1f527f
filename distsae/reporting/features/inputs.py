"""Opens what feature pages are made from, and refuses what does not belong together, before any long work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from distsae.devices import device_named
from distsae.errors import WrongInput
from distsae.language_model import LanguageModel, OutputHead, model_of_store, output_head
from distsae.model import SAE
from distsae.model.sae_on_store import open_on_store
from distsae.progress import say
from distsae.reporting.features.config import FeaturesConfig
from distsae.reporting.features.plan import Part, parts_of
from distsae.store import Store
from distsae.text import TokenText

__all__ = ["FeatureInputs", "open_inputs"]


@dataclass(frozen=True, kw_only=True)
class FeatureInputs:
    """What feature pages are made from.

    Args:
        sae_path: folder of the SAE, or its name on the Hub.
        sae: the SAE, on the device to work on, with weights in fp32.
        store: the sealed store.
        parts: parts of the pass.
        text: text of tokens.
        vocabulary: number of token ids that the tokenizer has; 0 without one.
        head: output head of the language model, on the same device; None if there is none that fits.
    """

    sae_path: Path
    sae: SAE
    store: Store
    parts: tuple[Part, ...]
    text: TokenText
    vocabulary: int
    head: OutputHead | None


def open_inputs(config: FeaturesConfig) -> FeatureInputs:
    """Opens SAE, store and language model.

    Without `model`, a store's model that is not at hand, or is no longer the same, is done without: tokens are shown
    by their ids then, or there are no tables of promoted tokens.

    Raises:
        WrongInput: one of them is missing, or they do not belong together.
    """
    device = device_named(config.device)
    opened = open_on_store(config.run, config.store, device)
    sae, store = opened.sae, opened.store
    parts = parts_of(store, config.split, config.max_rows, config.part_rows)
    model = _language_model(config, store)
    if model is None:
        return FeatureInputs(
            sae_path=opened.path, sae=sae, store=store, parts=parts, text=TokenText(None), vocabulary=0, head=None
        )
    return FeatureInputs(
        sae_path=opened.path,
        sae=sae,
        store=store,
        parts=parts,
        text=TokenText(model.tokenizer),
        vocabulary=len(model.tokenizer),
        head=_head(model, sae.cfg.hook_name, sae.cfg.d_in, device),
    )


def _language_model(config: FeaturesConfig, store: Store) -> LanguageModel | None:
    """Returns the model of the store, or the one that was given; None if the store's is not at hand."""
    if config.model is None and not store.attributes.model:
        say("tokens are shown by their ids: the store's activations were imported without a model; give --model")
        return None
    try:
        return model_of_store(
            store, config.model, trust_remote_code=config.trust_remote_code, tokenizer=True, code=False
        )
    except WrongInput as error:
        if config.model is not None:
            raise
        say(f"tokens are shown by their ids: the model of the store is not at hand ({error})")
        return None


def _head(model: LanguageModel, hook: str, d_in: int, device: torch.device) -> OutputHead | None:
    """Returns the output head if decoder rows lie in the residual stream that it reads."""
    head = output_head(model.model)
    if head is None or len(head.gain) != d_in or hook.endswith("mlp_hidden"):
        say(f"no tables of promoted tokens: {hook} is not in the residual stream that the unembedding reads")
        return None
    return OutputHead(
        gain=head.gain.to(device), centres=head.centres, unembedding=head.unembedding.to(device, copy=True)
    )
