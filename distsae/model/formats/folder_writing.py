"""Writes the folder of an exported SAE: all of it, or nothing.

Files are written into a hidden folder beside it, which gets the name of the folder when it is complete. The hidden
folder always has the same name, so that what a killed process left there is removed the next time.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Literal

import torch

from distsae.checked_files.safetensors_file import SafetensorsFile
from distsae.disk_room import way_out
from distsae.durable import sync, write_new
from distsae.errors import CannotContinue, WrongInput
from distsae.model.formats.catalogue import format_of
from distsae.model.formats.foreign_sae import EXTRA, Exported
from distsae.model.formats.model_card import Measurements, model_card
from distsae.model.formats.safetensors_stream import write_safetensors
from distsae.model.formats.tensor_writing import Advance, all_bytes
from distsae.model.formats.torch_archive import write_torch_archive
from distsae.model.formats.weight_source import FileWeights, WeightSource
from distsae.model.sae_config import SAEConfig
from distsae.model.sae_digest import DTYPES, source_digest

__all__ = ["EXPORTED_DTYPES", "DtypeName", "refuse_taken", "refuse_unholdable", "write_folder"]

DtypeName = Literal["fp32", "bf16", "fp16"]

EXPORTED_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Dtypes that an exported SAE may have, by the names of `--dtype`."""

_CARD = "README.md"


def refuse_taken(out: Path) -> None:
    """Checks that a folder can be made: its name is free, or an empty folder has it.

    Raises:
        WrongInput: there is something in it, or it is a file, or no folder can be made there.
    """
    if out.is_dir():
        if any(out.iterdir()):
            raise WrongInput(
                f"`out` (={out}) must be a new folder, or an empty one; got one with files in it; choose another name"
            )
    elif out.exists() or out.is_symlink():
        raise WrongInput(f"`out` (={out}) must be a new folder; got a file; choose another name")
    there = next(folder for folder in out.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        got = "without that right" if there.is_dir() else "which is a file"
        raise WrongInput(
            f"`out` (={out}) must be in a folder that can be written to; got {there}, {got}; choose another `out`"
        )


def refuse_unholdable(cfg: SAEConfig, source: WeightSource, to: str, dtype: str | None) -> int:
    """Checks that a format can hold an SAE; returns the bytes of weights that `write_folder` will write.

    Raises:
        WrongInput: as `write_folder`.
    """
    exported = format_of(to).exported(cfg, source, _dtype(source, dtype))
    return all_bytes(exported.tensors) + all_bytes(exported.extra)


def write_folder(
    cfg: SAEConfig,
    source: WeightSource,
    to: str,
    out: Path,
    *,
    dtype: str | None = None,
    licence: str | None = None,
    measured: Measurements | None = None,
    advance: Advance = lambda size: None,
) -> None:
    """Writes an SAE as the files of a tool, with a model card.

    Args:
        cfg: config of the SAE.
        source: its tensors.
        to: name of the format, one of `FORMATS`.
        out: folder to make.
        dtype: one of `EXPORTED_DTYPES`; None for that of the weights.
        licence: identifier of the licence for the model card.
        measured: figures for the model card.
        advance: is told of the bytes of weights that have been written.

    Raises:
        WrongInput: the tool cannot hold the SAE, or the dtype its weights; or the folder is taken.
        CannotContinue: the files cannot be written, on a full disk for example.
    """
    written = format_of(to)
    target = _dtype(source, dtype)
    cfg = dataclasses.replace(cfg, dtype=DTYPES[target])
    refuse_taken(out)
    exported = written.exported(cfg, source, target)
    unfinished = out.absolute().with_name(f".{out.absolute().name}.unfinished")
    try:
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            _write(unfinished, exported, source, advance)
            card = model_card(cfg, written, licence, measured or Measurements(), _described(exported))
            write_new(unfinished / _CARD, card.encode())
            sync(unfinished)
            if out.is_dir():
                out.rmdir()
            unfinished.rename(out.absolute())
            sync(out.absolute().parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise CannotContinue(
            f"the SAE could not be exported into {out} ({error}); {way_out(error, out.absolute().parent)}"
        ) from error


def _dtype(source: WeightSource, dtype: str | None) -> torch.dtype:
    if dtype is None:
        return source.dtype("W_enc")
    if dtype not in EXPORTED_DTYPES:
        raise WrongInput(f"`dtype` (={dtype}) must be one of {', '.join(EXPORTED_DTYPES)}; use one of them")
    return EXPORTED_DTYPES[dtype]


def _write(folder: Path, exported: Exported, source: WeightSource, advance: Advance) -> None:
    write = write_safetensors if exported.container == "safetensors" else write_torch_archive
    write(folder / exported.weights, exported.tensors, source, advance)
    if exported.extra:
        write_safetensors(folder / EXTRA, exported.extra, source, advance)
    documents = dict(exported.documents)
    if exported.digested is not None:
        with SafetensorsFile(folder / exported.weights) as file:
            digest = source_digest(FileWeights(file))
        documents[exported.digested] = {**documents[exported.digested], "weights_sha256": digest}
    for name, content in documents.items():
        write_new(folder / name, f"{json.dumps(content, indent=2)}\n".encode())


def _described(exported: Exported) -> dict[str, str]:
    """Returns what each file of the folder is."""
    names = ", ".join(f"`{name}` {list(tensor.shape)}" for name, tensor in exported.tensors.items())
    found = {exported.weights: f"the weights: {names}"}
    found |= dict.fromkeys(exported.documents, "the config")
    if exported.extra:
        kept = ", ".join(f"`{name}`" for name in exported.extra)
        found[EXTRA] = f"{kept}, for which the other file has no place; distsae reads them when the SAE comes back"
    return found
