"""The files of a language model, found or downloaded, with digests that identify it; weights are not loaded.

The digests are computed from the files, not from the loaded tensors. So they do not depend on the dtype or device of
the loaded model, and a finished job can be recognised without loading anything.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from distsae.errors import WrongInput
from distsae.language_model.adapter import Adapter, find_adapter
from distsae.language_model.foreign_errors import WrongModel, one_line
from distsae.language_model.loading_report import quiet_transformers
from distsae.language_model.model_folder import (
    code_digest,
    gguf_digest,
    read_config,
    refuse_unusable,
    weights_digest,
)
from distsae.text.local_path import local_path

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ModelFiles", "find_model"]


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The files of a model, and its tokenizer; the weights are not loaded.

    Args:
        name: name or folder that the user gave.
        revision: commit of the hub repository; `"local"` for a folder.
        folder: folder of the files.
        gguf: name of the GGUF file in it that holds the model; None for a folder that `save_pretrained` wrote.
        digest: SHA-256 of weights and configuration, hexadecimal.
        tokenizer_digest: SHA-256 of the tokenizer's whole definition, hexadecimal.
        code_digest: SHA-256 of the model's own code, hexadecimal; None if none of it may run.
        tokenizer: the tokenizer.
        adapter: adapter that is merged into the weights in `folder`; None for none. `digest` is that of both.
    """

    name: str
    revision: str
    folder: Path
    gguf: str | None
    digest: str
    tokenizer_digest: str
    code_digest: str | None
    tokenizer: PreTrainedTokenizerBase
    adapter: Adapter | None = None


def find_model(name_or_dir: str, *, revision: str | None = None, trust_remote_code: bool = False) -> ModelFiles:
    """Finds or downloads a model's files and computes their digests, without loading the weights.

    Args:
        name_or_dir: folder written by `save_pretrained`, of a model or a PEFT adapter; a GGUF file; or the name of a
            Hugging Face repository.
        revision: branch, tag or commit of the repository; None for its default branch.
        trust_remote_code: whether code that came with the model may run. Nobody is ever asked.

    Raises:
        WrongInput: there is no such model, its tokenizer is missing, or it is of a kind that `refuse_unusable` refuses.
    """
    from transformers import AutoConfig, AutoTokenizer

    path = local_path(name_or_dir, "model")
    if path is not None and path.suffix == ".gguf":
        return _find_gguf(name_or_dir, path)
    if path is None:
        folder = _hub_folder(name_or_dir, revision, trust_remote_code)
    else:
        folder = path
    if (adapter := find_adapter(folder, name_or_dir)) is not None:
        revision = "local" if path is not None else folder.name
        return _on_its_base(name_or_dir, revision, adapter, trust_remote_code)
    if not (folder / "config.json").is_file():
        raise WrongInput(
            f"`model` (={name_or_dir}) must be a folder that save_pretrained wrote, or a GGUF file; got one without "
            "config.json; save model and tokenizer there"
        )
    config = read_config(folder, name_or_dir)
    refuse_unusable(folder, name_or_dir, config)
    with quiet_transformers(), WrongModel(name_or_dir, "be of a kind that transformers knows", "use another model"):
        AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    with quiet_transformers(), WrongModel(name_or_dir, "hold a tokenizer", "save the tokenizer there"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return ModelFiles(
        name=name_or_dir,
        revision="local" if path is not None else folder.name,
        folder=folder,
        gguf=None,
        digest=weights_digest(folder, name_or_dir, config),
        tokenizer_digest=_tokenizer_digest(tokenizer),
        code_digest=code_digest(folder, name_or_dir, config) if trust_remote_code else None,
        tokenizer=tokenizer,
    )


def _on_its_base(name: str, revision: str, adapter: Adapter, trust_remote_code: bool) -> ModelFiles:
    """Returns the files of an adapter's base, with the identity of both.

    The tokenizer is the adapter's, if it was saved with one.

    Raises:
        WrongInput: the base is missing, or is an adapter itself.
    """
    from transformers import AutoTokenizer

    try:
        base = find_model(adapter.base, revision=adapter.base_revision, trust_remote_code=trust_remote_code)
    except WrongInput as error:
        raise WrongInput(f"{error} (the base of the adapter {name}; its adapter_config.json names it)") from error
    if base.adapter is not None:
        raise WrongInput(
            f"`model` (={name}) must be an adapter of a whole model; got one of the adapter {adapter.base}; merge that "
            "one first, by merge_and_unload of the peft library"
        )
    tokenizer = base.tokenizer
    if (adapter.folder / "tokenizer_config.json").is_file():
        with quiet_transformers(), WrongModel(name, "hold a tokenizer that loads", "save the tokenizer there"):
            tokenizer = AutoTokenizer.from_pretrained(adapter.folder, trust_remote_code=trust_remote_code)
    return replace(
        base,
        name=name,
        revision=revision,
        digest=hashlib.sha256(f"{base.digest} {adapter.digest}".encode()).hexdigest(),
        tokenizer_digest=_tokenizer_digest(tokenizer),
        tokenizer=tokenizer,
        adapter=adapter,
    )


def _find_gguf(name: str, file: Path) -> ModelFiles:
    """Returns a model in one GGUF file, with its tokenizer; its weights are dequantised when it is loaded.

    Raises:
        WrongInput: the file is none that transformers reads, or the gguf package is missing.
    """
    from transformers import AutoConfig, AutoTokenizer

    if find_spec("gguf") is None:
        raise WrongInput(f"`model` (={name}) must be read by the gguf package; got none; install `distsae[gguf]`")
    with (
        quiet_transformers(),
        WrongModel(name, "be a GGUF file of a kind that transformers knows", "use another model"),
    ):
        AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    with quiet_transformers(), WrongModel(name, "hold a tokenizer", "use another GGUF file"):
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    return ModelFiles(
        name=name,
        revision="local",
        folder=file.parent,
        gguf=file.name,
        digest=gguf_digest(file, name),
        tokenizer_digest=_tokenizer_digest(tokenizer),
        code_digest=None,
        tokenizer=tokenizer,
    )


def _hub_folder(name: str, revision: str | None, trust_remote_code: bool) -> Path:
    """Downloads a snapshot and returns its folder, whose name is the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", *(["*.py"] if trust_remote_code else [])]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*wanted, "*.bin"]))
    except (OSError, ValueError, HFValidationError) as error:
        raise WrongInput(
            f"`model` (={name}) must be an existing folder or a Hugging Face repository; got {one_line(error)}; "
            "check the name and the network"
        ) from error
    return folder


def _tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return hashlib.sha256(f"{text}\n{special}".encode()).hexdigest()
