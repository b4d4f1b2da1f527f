"""The formats by name: how their files are recognised, read and written, and how their tool loads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from distsae.errors import WrongInput, nearest
from distsae.model.formats import dictionary_learning, distsae_files, saelens, sparsify
from distsae.model.formats.foreign_sae import EXTRA, Exported, ForeignSAE
from distsae.model.formats.weight_source import WeightSource
from distsae.model.sae_config import SAEConfig

__all__ = ["FORMATS", "SAEFormat", "files_of_formats", "foreign_format", "format_of"]


@dataclass(frozen=True, kw_only=True)
class SAEFormat:
    """One tool's files.

    Args:
        title: the tool's name in prose.
        config: file of the config.
        weights: file of the weights.
        exported: says what a folder gets for an SAE; raises `WrongInput` for one that the tool cannot hold.
        read: reads a folder; None for distsae's own files.
        loading: Python lines that load a folder with the tool; `{folder}` stands for it.
    """

    title: str
    config: str
    weights: str
    exported: Callable[[SAEConfig, WeightSource, torch.dtype], Exported]
    read: Callable[[Path], ForeignSAE] | None
    loading: str


FORMATS: Mapping[str, SAEFormat] = {
    "saelens": SAEFormat(
        title="SAELens",
        config=saelens.CONFIG,
        weights=saelens.WEIGHTS,
        exported=saelens.exported,
        read=saelens.read,
        loading='from sae_lens import SAE\n\nsae = SAE.load_from_disk("{folder}")',
    ),
    "dictionary_learning": SAEFormat(
        title="dictionary_learning",
        config=dictionary_learning.CONFIG,
        weights=dictionary_learning.WEIGHTS,
        exported=dictionary_learning.exported,
        read=dictionary_learning.read,
        loading=(
            "from dictionary_learning.utils import load_dictionary\n\n"
            'sae, config = load_dictionary("{folder}", device="cpu")'
        ),
    ),
    "sparsify": SAEFormat(
        title="sparsify",
        config=sparsify.CONFIG,
        weights=sparsify.WEIGHTS,
        exported=sparsify.exported,
        read=sparsify.read,
        loading='from sparsify import SparseCoder\n\nsae = SparseCoder.load_from_disk("{folder}")',
    ),
    "safetensors": SAEFormat(
        title="distsae",
        config=distsae_files.CONFIG,
        weights=distsae_files.WEIGHTS,
        exported=distsae_files.exported,
        read=None,
        loading='from distsae import SAE\n\nsae = SAE.load("{folder}")',
    ),
}
"""Formats by the names that `distsae export --to` takes."""


def format_of(name: str) -> SAEFormat:
    """Returns a format by name.

    Raises:
        WrongInput: there is none of that name.
    """
    if name not in FORMATS:
        raise WrongInput(f"`to` (={name}) must be one of {', '.join(FORMATS)}{nearest(name, FORMATS)}")
    return FORMATS[name]


def foreign_format(folder: Path) -> SAEFormat | None:
    """Returns the format of another tool whose files a folder has, by their names; None if there is none."""
    for found in FORMATS.values():
        if found.read is not None and (folder / found.config).is_file() and (folder / found.weights).is_file():
            return found
    return None


def files_of_formats() -> list[str]:
    """Returns the names of all files that make an SAE in some format."""
    return sorted({EXTRA, *(name for one in FORMATS.values() for name in (one.config, one.weights))})
