"""Loads the language model whose activations are read, with digests that identify it.

The digests are computed from the files, not from the loaded tensors. So they do not depend on the dtype or device of
the loaded model, and a finished job can be recognised without loading anything.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from distsae.errors import WrongInput
from distsae.text.local_path import local_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LanguageModel", "ModelFiles", "find_model", "load_language_model"]

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt")  # in transformers' order of preference
_VOLATILE = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache")  # no effect on activations


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The files of a model, and its tokenizer; the weights are not loaded.

    Args:
        name: name or folder that the user gave.
        revision: commit of the hub repository; `"local"` for a folder.
        folder: folder of the files.
        digest: SHA-256 of weights and configuration, hexadecimal.
        tokenizer_digest: SHA-256 of the tokenizer's whole definition, hexadecimal.
        tokenizer: the tokenizer.
    """

    name: str
    revision: str
    folder: Path
    digest: str
    tokenizer_digest: str
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A causal language model, ready to run: in eval mode, without gradients.

    Args:
        model: the transformers model.
        tokenizer: the model's tokenizer.
        name: name or folder that the user gave.
        revision: commit of the hub repository; `"local"` for a folder.
        digest: SHA-256 of weights and configuration, hexadecimal.
        tokenizer_digest: SHA-256 of the tokenizer's whole definition, hexadecimal.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str
    digest: str
    tokenizer_digest: str


def find_model(name_or_dir: str, *, revision: str | None = None) -> ModelFiles:
    """Finds or downloads a model's files and computes their digests, without loading the weights.

    Args:
        name_or_dir: folder written by `save_pretrained`, or name of a Hugging Face repository.
        revision: branch, tag or commit of the repository; None for its default branch.

    Raises:
        WrongInput: there is no such model, or its tokenizer is missing.
    """
    from transformers import AutoTokenizer

    path = local_path(name_or_dir, "model")
    if path is None:
        folder = _hub_folder(name_or_dir, revision)
    elif (path / "config.json").is_file():
        folder = path
    else:
        raise WrongInput(
            f"`model` (={name_or_dir}) must be a folder that save_pretrained wrote; got one without config.json; "
            "save model and tokenizer there"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise WrongInput(
            f"`model` (={name_or_dir}) must hold a tokenizer; got {_first_line(error)}; save the tokenizer there"
        ) from error
    return ModelFiles(
        name=name_or_dir,
        revision="local" if path is not None else folder.name,
        folder=folder,
        digest=_weights_digest(folder),
        tokenizer_digest=_tokenizer_digest(tokenizer),
        tokenizer=tokenizer,
    )


def load_language_model(
    name_or_dir: str,
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LanguageModel:
    """Loads a causal language model and its tokenizer.

    Args:
        name_or_dir: folder written by `save_pretrained`, or name of a Hugging Face repository.
        revision: branch, tag or commit of the repository; None for its default branch.
        device: device on which the model runs.
        dtype: dtype in which the model computes.

    Raises:
        WrongInput: there is no such model, or it is not a causal language model.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # distsae shows its own
    files = find_model(name_or_dir, revision=revision)
    try:
        model = AutoModelForCausalLM.from_pretrained(files.folder, dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        raise WrongInput(
            f"`model` (={name_or_dir}) must be a causal language model; got {_first_line(error)}; use another model"
        ) from error
    model.requires_grad_(False)
    return LanguageModel(
        model=model.eval().to(device),
        tokenizer=files.tokenizer,
        name=files.name,
        revision=files.revision,
        digest=files.digest,
        tokenizer_digest=files.tokenizer_digest,
    )


def _hub_folder(name: str, revision: str | None) -> Path:
    """Downloads a snapshot and returns its folder, whose name is the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*wanted, "*.bin"]))
    except (OSError, ValueError, HFValidationError) as error:
        raise WrongInput(
            f"`model` (={name}) must be an existing folder or a Hugging Face repository; got {_first_line(error)}; "
            "check the name and the network"
        ) from error
    return folder


def _weights_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    digest.update(json.dumps({k: config[k] for k in sorted(config) if k not in _VOLATILE}).encode())
    weights = next((files for pattern in _WEIGHTS if (files := sorted(folder.glob(pattern)))), [])
    if not weights:
        raise WrongInput(
            f"`model` (={folder}) must hold weights; got no file {' or '.join(_WEIGHTS)}; save the model there"
        )
    for file in weights:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return hashlib.sha256(f"{text}\n{special}".encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
