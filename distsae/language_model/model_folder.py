"""The files of a model, read and judged before anything of them is loaded or run.

Some models would load, and give other activations than their name promises: adapters beside the weights change the
content where the `peft` library happens to be installed, and quantised weights need packages that change it as well.
They are refused here; an adapter in a folder of its own is for `adapter.py`. Digests are computed from the files, not
from the loaded tensors, so that they depend on neither dtype nor device.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from distsae.errors import WrongInput
from distsae.language_model.foreign_errors import WrongModel

__all__ = ["code_digest", "gguf_digest", "read_config", "refuse_unusable", "weights_digest"]

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt")  # in transformers' order of preference
_VOLATILE = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache")  # no effect on activations
_ADAPTERS = ("adapter_config.json", "adapter_model.*")
_QUANTISED = ("quantization_config", "compression_config")
_PLAIN_DTYPES = ("F64", "F32", "F16", "BF16")


def read_config(folder: Path, name: str, file: str = "config.json") -> dict[str, Any]:
    """Returns the content of a JSON file of the model's folder.

    Args:
        folder: folder of the model.
        name: name or folder that the user gave.
        file: name of the file.

    Raises:
        WrongInput: the file is no JSON object.
    """
    with WrongModel(name, f"have a {file} that is a JSON object", "save the model again"):
        config = json.loads((folder / file).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise TypeError(f"a {type(config).__name__}")
    return config


def refuse_unusable(folder: Path, name: str, config: dict[str, Any]) -> None:
    """Refuses adapters and quantised weights.

    Args:
        folder: folder of the model.
        name: name or folder that the user gave.
        config: content of `config.json`.

    Raises:
        WrongInput: the folder holds one of them.
    """
    if adapters := sorted(path.name for pattern in _ADAPTERS for path in folder.glob(pattern)):
        raise WrongInput(
            f"`model` (={name}) must be a model without adapters beside its weights; got {', '.join(adapters)}; put "
            "the adapter into a folder of its own and give that, or remove its files"
        )
    if (quantised := _quantisation(config)) is not None:
        raise _quantised_weights(name, quantised)
    for file in _weight_files(folder):
        if file.suffix == ".safetensors":
            _refuse_quantised_tensors(file, name)


def weights_digest(folder: Path, name: str, config: dict[str, Any]) -> str:
    """Returns the SHA-256 of weights and configuration, hexadecimal.

    Raises:
        WrongInput: there are no weights.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps({k: config[k] for k in sorted(config) if k not in _VOLATILE}).encode())
    weights = _weight_files(folder)
    if not weights:
        raise WrongInput(
            f"`model` (={name}) must hold weights; got no file {' or '.join(_WEIGHTS)} in {folder}; save the model "
            "there"
        )
    for file in weights:
        with WrongModel(name, "hold weights that can be read", "save the model again"), file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def gguf_digest(file: Path, name: str) -> str:
    """Returns the SHA-256 of a GGUF file, which holds weights and configuration, hexadecimal."""
    with WrongModel(name, "hold weights that can be read", "download it anew"), file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def code_digest(folder: Path, name: str, config: dict[str, Any]) -> str | None:
    """Returns the SHA-256 of all code in the model's folder, hexadecimal; None if the model has no code of its own.

    Raises:
        WrongInput: the code cannot be read, or is in another repository.
    """
    references = _code_references(folder, name, config)
    if elsewhere := sorted(reference for reference in references if "--" in reference):
        raise WrongInput(
            f"`model` (={name}) must hold its own code, so that a digest can be recorded; got {elsewhere[0]} of "
            "another repository; save the code in the model's folder"
        )
    if not references:
        return None
    digest = hashlib.sha256()
    with WrongModel(name, "hold code that can be read", "save the model again"):
        for file in sorted(folder.rglob("*.py")):
            relative = file.relative_to(folder).as_posix()
            digest.update(f"{relative}\n{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    return next((files for pattern in _WEIGHTS if (files := sorted(folder.glob(pattern)))), [])


def _quantisation(config: dict[str, Any]) -> str | None:
    """Returns the name of the method by which the weights are quantised, None if they are not."""
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in _QUANTISED:
            if found := part.get(key):
                method = found.get("quant_method") if isinstance(found, dict) else None
                return str(method or key)
    return None


def _refuse_quantised_tensors(file: Path, name: str) -> None:
    """Refuses weights in a dtype that needs a scale; transformers would convert the numbers without it."""
    from safetensors import safe_open

    with (
        WrongModel(name, f"hold whole weights ({file.name})", "save the model again, or download it anew"),
        safe_open(file, "pt") as opened,
    ):
        dtypes = {key: opened.get_slice(key).get_dtype() for key in opened.keys()}  # noqa: SIM118 (no mapping)
    strange = [f"{key} in {dtype}" for key, dtype in dtypes.items() if _needs_scale(key, dtype)]
    if strange:
        raise _quantised_weights(name, strange[0])


def _needs_scale(key: str, dtype: str) -> bool:
    if dtype in _PLAIN_DTYPES:
        return False
    return dtype.startswith("F") or key.endswith(("weight", "qweight", "_packed"))


def _quantised_weights(name: str, got: str) -> WrongInput:
    return WrongInput(
        f"`model` (={name}) must have weights that are not quantised; got {got}; use the model from which it was made, "
        "or save it dequantised"
    )


def _code_references(folder: Path, name: str, config: dict[str, Any]) -> set[str]:
    """Returns the classes outside transformers that model and tokenizer name, such as `modeling_x.XForCausalLM`."""
    maps = [config.get("auto_map")]
    if (folder / "tokenizer_config.json").is_file():
        maps.append(read_config(folder, name, "tokenizer_config.json").get("auto_map"))
    references: set[str] = set()
    for classes in maps:
        for value in classes.values() if isinstance(classes, dict) else [classes]:
            entries = value if isinstance(value, list) else [value]  # of a tokenizer: the slow and the fast class
            references |= {entry for entry in entries if isinstance(entry, str)}
    return references
