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
    load_language_model,
    refuse_another_model,
)
from distsae.model import SAE
from distsae.model.sae_files import sae_folder
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
        sae_path: folder of the SAE.
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
    folder = sae_folder(config.run, "run")
    store = Store.open(config.store)
    sae = SAE.load(folder).to(device).float().eval()  # what fp16 or bf16 weights stand for, exactly
    hook = sae.cfg.hook_name
    if not hook:
        raise WrongInput(
            f"`run` (={config.run}) must be an SAE whose hook is known; got another tool's files without it; "
            "use `distsae import` with its hook first"
        )
    store.require_hook(hook)
    if store.d_in(hook) != sae.cfg.d_in:
        raise WrongInput(
            f"`store` (={config.store}) must hold activations as wide as the SAE's d_in {sae.cfg.d_in}; got "
            f"{store.d_in(hook)} at {hook}; give the store that the SAE was trained on"
        )
    if store.attributes.context_length < store.attributes.excluded_positions + 2:
        raise WrongInput(
            f"`store` (={config.store}) must leave a next token to predict after its excluded positions; got contexts "
            f"of {store.attributes.context_length} tokens with {store.attributes.excluded_positions} excluded; use a "
            "store with longer contexts"
        )
    model = _language_model(config, store, device)
    _refuse_another_model(model, store, hook)
    token_ids = _token_ids(config, store, model)
    return Inputs(sae_path=folder, sae=sae, store=store, model=model, hook=hook, token_ids=token_ids, device=device)


def _language_model(config: EvaluateConfig, store: Store, device: torch.device) -> LanguageModel:
    attributes = store.attributes
    name = config.model or attributes.model
    if not name:
        raise WrongInput(
            f"`model` must be given for {store.path}, a store of activations that were imported without it; add "
            "`--model` with the model that they are from"
        )
    is_stores_repository = name == attributes.model and attributes.model_revision not in ("local", "own activations")
    revision = attributes.model_revision if is_stores_repository else None
    dtype = DTYPES[attributes.model_dtype].torch  # the dtype in which the activations of the store were computed
    try:
        model = load_language_model(
            name, revision=revision, device=device, dtype=dtype, trust_remote_code=config.trust_remote_code
        )
    except WrongInput as error:
        if config.model is None:
            raise WrongInput(f"{error} (the model of the store; give `--model` if it has moved)") from error
        raise
    is_known = bool(attributes.model_digest)  # of an imported store it is not: the model's activations are compared
    if is_known and model.digest != attributes.model_digest:
        raise WrongInput(
            f"`model` (={name}) must be the model that produced the store, whose weights have digest "
            f"{attributes.model_digest}; got {model.digest}; give `--model` with the same weights"
        )
    if is_known and model.code_digest != attributes.code_digest:
        raise WrongInput(
            f"`model` (={name}) must run the code that produced the store, with digest {attributes.code_digest}; got "
            f"{model.code_digest}; set --trust_remote_code if the store was made with it, and give `--model` with it"
        )
    if is_known and config.corpus is not None and model.tokenizer_digest != attributes.tokenizer_digest:
        raise WrongInput(
            f"`model` (={name}) must have the store's tokenizer (digest {attributes.tokenizer_digest}) to pack "
            f"`corpus`; got digest {model.tokenizer_digest}; use the tokenizer of the store"
        )
    return model


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
