"""The language model whose activations a store holds: found by its name there or by the user's, and recognised."""

from __future__ import annotations

import torch

from distsae.errors import WrongInput
from distsae.language_model.loading import LanguageModel, load_language_model
from distsae.store import Store

__all__ = ["model_of_store"]


def model_of_store(
    store: Store,
    given: str | None,
    *,
    trust_remote_code: bool,
    tokenizer: bool,
    code: bool,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LanguageModel:
    """Loads the model of a store, and compares what identifies it.

    Of activations that were imported no digest is known, and none is compared.

    Args:
        store: the store.
        given: name or folder that the user gave as `model`; None for the model that the store names.
        trust_remote_code: whether code that came with the model may run.
        tokenizer: whether the tokenizer must be that of the store, because text is made of tokens or tokens of text.
        code: whether the model's own code must be that of the store, because the model is run.
        device: device on which the model runs.
        dtype: dtype in which the model computes.

    Raises:
        WrongInput: there is no such model, or it is another one.
        CannotContinue: there is too little memory for it.
    """
    attributes = store.attributes
    name = given or attributes.model
    if not name:
        raise WrongInput(
            f"`model` must be given for {store.path}, a store of activations that were imported without it; add "
            "`--model` with the model that they are from"
        )
    is_stores_repository = name == attributes.model and attributes.model_revision not in ("local", "own activations")
    revision = attributes.model_revision if is_stores_repository else None
    try:
        model = load_language_model(
            name, revision=revision, device=device, dtype=dtype, trust_remote_code=trust_remote_code
        )
    except WrongInput as error:
        if given is None:
            raise WrongInput(f"{error} (the model of the store; give `--model` if it has moved)") from error
        raise
    if not attributes.model_digest:
        return model
    if model.digest != attributes.model_digest:
        raise WrongInput(
            f"`model` (={name}) must be the model that produced the store, whose weights have digest "
            f"{attributes.model_digest}; got {model.digest}; give `--model` with the same weights"
        )
    if code and model.code_digest != attributes.code_digest:
        raise WrongInput(
            f"`model` (={name}) must run the code that produced the store, with digest {attributes.code_digest}; got "
            f"{model.code_digest}; set --trust_remote_code if the store was made with it, and give `--model` with it"
        )
    if tokenizer and model.tokenizer_digest != attributes.tokenizer_digest:
        raise WrongInput(
            f"`model` (={name}) must have the store's tokenizer, with digest {attributes.tokenizer_digest}; got digest "
            f"{model.tokenizer_digest}; use the tokenizer of the store"
        )
    return model
