"""Opens the inputs of an evaluation and refuses those that do not belong together, before any long work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from distsae.devices import device_named
from distsae.errors import WrongInput
from distsae.evaluation.config import EvaluateConfig
from distsae.language_model import (
    LanguageModel,
    hook_widths,
    model_of_store,
    refuse_another_model,
)
from distsae.model import SAE
from distsae.model.sae_on_store import open_on_store
from distsae.progress import say
from distsae.seeds import numpy_generator
from distsae.store import Store
from distsae.store.layout import DTYPES
from distsae.text import documents, pack
from distsae.text.unused_settings import refuse_unused_settings

__all__ = ["Inputs", "open_inputs"]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of one evaluation.

    Args:
        sae_path: folder of the SAE, or its name on the Hub.
        sae: the SAE, on `device`, with weights in fp32.
        store: the sealed store.
        model: the language model that produced the store, on `device`.
        hook: hook of the model whose activations the SAE was trained on.
        token_ids: token ids of the contexts in shuffled order, `[contexts, length]` int64, on the CPU.
        device: device of the SAE and the model.
    """

    sae_path: Path
    sae: SAE
    store: Store
    model: LanguageModel
    hook: str
    token_ids: Tensor
    device: torch.device


def open_inputs(config: EvaluateConfig) -> Inputs:
    """Opens SAE, store, model and text, and checks that they belong together.

    Raises:
        WrongInput: one of them is missing, or they do not belong together.
    """
    if config.corpus is not None:
        refuse_unused_settings(config.corpus, text_field=config.text_field, split=config.split, subset=config.subset)
    device = device_named(config.device, dtype=torch.float64)  # sums are kept in float64
    opened = open_on_store(config.run, config.store, device)
    store, hook = opened.store, opened.sae.cfg.hook_name
    if store.attributes.context_length < store.attributes.excluded_positions + 2:
        raise WrongInput(
            f"`store` (={config.store}) must leave a next token to predict after its excluded positions; got contexts "
            f"of {store.attributes.context_length} tokens with {store.attributes.excluded_positions} excluded; use a "
            "store with longer contexts"
        )
    model = model_of_store(
        store,
        config.model,
        trust_remote_code=config.trust_remote_code,
        tokenizer=config.corpus is not None,  # the store's own contexts are tokens already
        code=True,
        device=device,
        dtype=DTYPES[store.attributes.model_dtype].torch,  # in which the activations of the store were computed
    )
    _refuse_another_model(model, store, hook)
    token_ids = _token_ids(config, store, model)
    return Inputs(
        sae_path=opened.path,
        sae=opened.sae,
        store=store,
        model=model,
        hook=hook,
        token_ids=token_ids,
        device=device,
    )


def _refuse_another_model(model: LanguageModel, store: Store, hook: str) -> None:
    """Checks in two small passes that the hook can be spliced, and that the model gives what the store holds."""
    width = hook_widths(model.model, [hook])[hook]
    if width != store.d_in(hook):
        raise WrongInput(
            f"`model` (={model.name}) must have activations as wide as the store's {store.d_in(hook)} at {hook}; got "
            f"{width}; give `--model` that produced the store"
        )
    records = sorted(store.committed(), key=lambda record: record.split == "heldout")
    if records:
        refuse_another_model(model.model, model.name, store.path, store.attributes, records[-1], [hook])


def _token_ids(config: EvaluateConfig, store: Store, model: LanguageModel) -> Tensor:
    """Returns contexts in shuffled order, cut to `max_tokens`; of `corpus`, the first that are needed are read."""
    attributes = store.attributes
    length = attributes.context_length
    wanted = max(config.max_tokens // length, 1)
    if config.corpus is None:
        token_ids = store.heldout_contexts()
    else:
        packed = pack(
            documents(
                config.corpus,
                text_field=config.text_field,
                split=config.split,
                subset=config.subset,
                revision=config.corpus_revision,
            ),
            model.tokenizer,
            length,
            max_contexts=wanted,
            prepend_bos=attributes.prepend_bos,
            vocabulary=model.vocabulary,
        )
        token_ids = torch.as_tensor(packed.token_ids).long()
    if len(token_ids) == 0:
        if config.corpus is None:
            raise WrongInput(f"`store` (={config.store}) must have held-out contexts; got none; give `--corpus`")
        raise WrongInput(f"`corpus` (={config.corpus}) must fill a context of {length} tokens; give more text")
    if len(token_ids) < wanted and config.max_tokens != EvaluateConfig.max_tokens:
        source = "the held-out contexts of the store" if config.corpus is None else f"`corpus` (={config.corpus})"
        say(f"{source} have {len(token_ids) * length:,} tokens, not the {config.max_tokens:,} of `max_tokens`")
    order = numpy_generator(config.seed, "evaluation", "contexts").permutation(len(token_ids))
    return token_ids[torch.from_numpy(order[:wanted].copy())]
