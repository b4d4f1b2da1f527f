"""Loads the language model whose activations are read."""

from __future__ import annotations

import io
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from distsae.errors import WrongInput
from distsae.language_model.adapter import merged
from distsae.language_model.foreign_errors import WrongModel
from distsae.language_model.loading_report import quiet_transformers, refuse_missing_weights
from distsae.language_model.model_files import find_model
from distsae.language_model.split_model import DeviceMap, refuse_offloaded, say_split

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LanguageModel", "load_language_model"]

_PADDING = 128  # embeddings without a token that even a small vocabulary may have


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A causal language model, ready to run: in eval mode, without gradients.

    Args:
        model: the transformers model.
        tokenizer: the model's tokenizer.
        vocabulary: number of token ids that the model has an embedding for.
        name: name or folder that the user gave.
        revision: commit of the hub repository; `"local"` for a folder.
        digest: SHA-256 of weights and configuration, hexadecimal.
        tokenizer_digest: SHA-256 of the tokenizer's whole definition, hexadecimal.
        code_digest: SHA-256 of the model's own code, hexadecimal; None if none of it may run.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    vocabulary: int
    name: str
    revision: str
    digest: str
    tokenizer_digest: str
    code_digest: str | None


def load_language_model(
    name_or_dir: str,
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    trust_remote_code: bool = False,
    device_map: DeviceMap | None = None,
) -> LanguageModel:
    """Loads a causal language model and its tokenizer; an adapter is merged into its base.

    Args:
        name_or_dir: folder written by `save_pretrained`, of a model or a PEFT adapter; a GGUF file; or the name of a
            Hugging Face repository.
        revision: branch, tag or commit of the repository; None for its default branch.
        device: device on which the model runs.
        dtype: dtype in which the model computes.
        trust_remote_code: whether code that came with the model may run.
        device_map: how the model is split over devices, as transformers takes it; `device` is not used then.

    Raises:
        WrongInput: there is no such model, it is not a causal language model, its files lack some of its weights,
            or its tokenizer is not its own.
        CannotContinue: there is too little memory for it.
    """
    from transformers import AutoModelForCausalLM

    files = find_model(name_or_dir, revision=revision, trust_remote_code=trust_remote_code)
    use = "use another model" if device_map is None else f"use another `device_map` (={device_map}), or another model"
    with quiet_transformers(), WrongModel(name_or_dir, "be a causal language model that loads", use):
        gguf = {} if files.gguf is None else {"gguf_file": files.gguf}
        with redirect_stderr(io.StringIO()) if gguf else nullcontext():  # its bar heeds no setting
            model, report = AutoModelForCausalLM.from_pretrained(
                files.folder,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,  # they are in the report then, and refused by name
                output_loading_info=True,
                **gguf,
                **({} if device_map is None else {"device_map": device_map}),
            )
        refuse_missing_weights(name_or_dir, report)
        if files.adapter is not None:
            refuse_offloaded(model, device_map)
            model = merged(model, files.adapter, name_or_dir)
        model.requires_grad_(False)
        model.eval()
        if device_map is None:
            model = model.to(device)
        else:
            say_split(model, name_or_dir)
        vocabulary = int(model.get_input_embeddings().weight.shape[0])
    _refuse_small_tokenizer(name_or_dir, len(files.tokenizer), vocabulary)
    return LanguageModel(
        model=model,
        tokenizer=files.tokenizer,
        vocabulary=vocabulary,
        name=files.name,
        revision=files.revision,
        digest=files.digest,
        tokenizer_digest=files.tokenizer_digest,
        code_digest=files.code_digest,
    )


def _refuse_small_tokenizer(name: str, tokens: int, vocabulary: int) -> None:
    """Refuses a tokenizer without its vocabulary, which transformers makes where a folder has none.

    More tokens than embeddings are no fault as long as no text has them.
    """
    if 2 * tokens < vocabulary and vocabulary - tokens > _PADDING:
        raise WrongInput(
            f"`model` (={name}) must hold its own tokenizer; got one of {tokens} tokens for {vocabulary} embeddings; "
            "save the model's tokenizer in its folder"
        )
