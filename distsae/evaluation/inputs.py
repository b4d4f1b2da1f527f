"""Opens everything that an evaluation needs and refuses what does not belong together, before any long work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from distsae.errors import WrongInput
from distsae.evaluation.config import EvaluateConfig
from distsae.language_model.hooks import resolve_hook
from distsae.language_model.loading import LanguageModel, load_language_model
from distsae.model import SAE
from distsae.seeds import numpy_generator
from distsae.store import Store
from distsae.store.layout import DTYPES
from distsae.text import contexts, corpus

__all__ = ["Inputs", "default_out", "open_inputs", "sae_folder"]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What one evaluation reads.

    Args:
        sae_path: folder of the SAE.
        sae: the SAE, on `device`.
        store: the sealed store.
        model: the language model that produced the store, on `device`.
        hook: where the SAE belongs in the model.
        token_ids: shuffled contexts, `[contexts, length]` int64, on the CPU.
        device: where the work happens.
    """

    sae_path: Path
    sae: SAE
    store: Store
    model: LanguageModel
    hook: str
    token_ids: Tensor
    device: torch.device


def sae_folder(path: Path) -> Path:
    """Returns the folder of the SAE, given it or its run folder.

    Raises:
        WrongInput: there is neither a folder nor an SAE in it.
    """
    if not path.is_dir():
        raise WrongInput(f"`run` (={path}) must be a run folder or an SAE folder; no such folder; check the path")
    for folder in (path / "sae", path):
        if any(folder.glob("*.safetensors")):
            return folder
    raise WrongInput(f"`run` (={path}) must hold a trained SAE; it has no sae/ folder; finish `distsae train` first")


def default_out(path: Path) -> Path:
    """Returns where an evaluation of `path` goes: in the run folder, or in a lone SAE's own folder."""
    folder = sae_folder(path).resolve()
    run = folder.parent if folder.name == "sae" and (folder.parent / "config.yaml").is_file() else path
    return run / "evaluation.json"


def open_inputs(config: EvaluateConfig) -> Inputs:
    """Opens and cross-checks SAE, store, model and text.

    Raises:
        WrongInput: something is missing, or SAE, store and model do not belong together.
    """
    device = _device(config.device)
    folder = sae_folder(Path(config.run))
    store = Store.open(config.store)
    sae = SAE.load(folder).to(device).eval()
    hook = sae.cfg.hook_name
    store.require_hook(hook)
    if store.d_in(hook) != sae.cfg.d_in:
        raise WrongInput(
            f"`store` (={config.store}) must hold activations as wide as the SAE's d_in {sae.cfg.d_in}; got "
            f"{store.d_in(hook)} at {hook}; give the store that the SAE was trained on"
        )
    if store.attributes.context_length < store.attributes.excluded_positions + 2:
        raise WrongInput(
            f"`store` (={config.store}) must leave a next token to predict after its excluded positions; got contexts "
            f"of {store.attributes.context_length} tokens with {store.attributes.excluded_positions} excluded"
        )
    model = _language_model(config, store, device)
    resolve_hook(model.model, hook)
    token_ids = _token_ids(config, store, model)
    return Inputs(sae_path=folder, sae=sae, store=store, model=model, hook=hook, token_ids=token_ids, device=device)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, dtype=torch.float64, device=device)  # sums are kept in float64
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise WrongInput(f"`device` (={name}) must be auto or a device of this machine; {reason}") from error
    return device


def _language_model(config: EvaluateConfig, store: Store, device: torch.device) -> LanguageModel:
    attributes = store.attributes
    name = config.model or attributes.model
    is_stores_repository = name == attributes.model and attributes.model_revision != "local"
    revision = attributes.model_revision if is_stores_repository else None
    dtype = DTYPES[attributes.model_dtype].torch  # what the store's activations were computed in
    try:
        model = load_language_model(name, revision=revision, device=device, dtype=dtype)
    except WrongInput as error:
        if config.model is None:
            raise WrongInput(f"{error} (the store's model; give `--model` if it has moved)") from error
        raise
    if model.digest != attributes.model_digest:
        raise WrongInput(
            f"`model` (={name}) must be the model that produced the store; its weights have digest {model.digest}, "
            f"the store's {attributes.model_digest}; give `--model` the same weights"
        )
    if config.corpus is not None and model.tokenizer_digest != attributes.tokenizer_digest:
        raise WrongInput(
            f"`model` (={name}) must have the store's tokenizer to pack `corpus`; got digest {model.tokenizer_digest}, "
            f"the store's is {attributes.tokenizer_digest}"
        )
    return model


def _token_ids(config: EvaluateConfig, store: Store, model: LanguageModel) -> Tensor:
    """Returns the contexts in shuffled order, cut to `max_tokens`; of an endless corpus the first are taken."""
    attributes = store.attributes
    length = attributes.context_length
    wanted = max(config.max_tokens // length, 1)
    if config.corpus is None:
        token_ids = store.heldout_contexts()
    else:
        packed = contexts.pack(
            corpus.documents(config.corpus),
            model.tokenizer,
            length,
            max_contexts=wanted,
            prepend_bos=attributes.prepend_bos,
        )
        token_ids = torch.as_tensor(packed.token_ids).long()
    if len(token_ids) == 0:
        if config.corpus is None:
            raise WrongInput(f"`store` (={config.store}) must have held-out contexts; it has none; give `--corpus`")
        raise WrongInput(f"`corpus` (={config.corpus}) must fill a context of {length} tokens; give more text")
    order = numpy_generator(config.seed, "evaluation", "contexts").permutation(len(token_ids))
    return token_ids[torch.from_numpy(order[:wanted].copy())]
