"""The language model whose activations are read, with digests that say which one it was.

The digests come from the files, not from the loaded tensors, so that they do not depend on the dtype or device
that the model was loaded with, and a finished job can be recognised without loading anything.
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

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt")  # in the order in which transformers prefers them
_VOLATILE = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache")  # change no activation


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model that is known but not loaded.

    Args:
        name: the name or folder that the user gave.
        revision: commit of the hub repository; `"local"` for a folder.
        folder: where the files are.
        digest: of the weights and of the configuration, hexadecimal.
        tokenizer_digest: of the tokenizer's whole definition, hexadecimal.
        tokenizer: the tokenizer itself.
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
        tokenizer: its tokenizer.
        name: the name or folder that the user gave.
        revision: commit of the hub repository; `"local"` for a folder.
        digest: of the weights and of the configuration, hexadecimal.
        tokenizer_digest: of the tokenizer's whole definition, hexadecimal.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str
    digest: str
    tokenizer_digest: str


def find_model(name_or_dir: str, *, revision: str | None = None) -> ModelFiles:
    """Finds (or downloads) a model's files and digests them, without loading the weights.

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
        raise WrongInput(f"`model` (={name_or_dir}) must hold a tokenizer; got {_first_line(error)}") from error
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
        name_or_dir: a folder written by `save_pretrained`, or the name of a Hugging Face repository.
        revision: of the repository.
        device: where the model runs.
        dtype: that the model computes in.

    Raises:
        WrongInput: there is no such model, or it is not a causal language model.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # one of ours is on the screen
    files = find_model(name_or_dir, revision=revision)
    try:
        model = AutoModelForCausalLM.from_pretrained(files.folder, dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        raise WrongInput(
            f"`model` (={name_or_dir}) must be a causal language model; got {_first_line(error)}"
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
    """Downloads a snapshot; its folder is named after the commit."""
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
        raise WrongInput(f"`model` (={folder}) must hold weights; got no file {' or '.join(_WEIGHTS)}")
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
