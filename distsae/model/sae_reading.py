"""Reads an SAE from a path or from the Hub, in the files of distsae or of another tool."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from distsae.checked_files import WrongField, read_json_object, typed
from distsae.checked_files.safetensors_file import SafetensorsFile
from distsae.errors import TornData, WrongInput
from distsae.model.formats.catalogue import foreign_format
from distsae.model.formats.foreign_sae import Given
from distsae.model.formats.weight_source import FileWeights, row_blocks
from distsae.model.hub import fetched, is_hub_name
from distsae.model.sae_config import SAEConfig
from distsae.model.sae_digest import OPTIONAL, REQUIRED, SAEDigest, read_weights, refuse_broken, source_digest
from distsae.model.sae_files import CONFIG, WEIGHTS, is_complete, sae_folder
from distsae.model.sae_tensors import check_tensors

__all__ = ["folder_of", "opened_weights", "read_config", "read_sae"]


def folder_of(path: str | Path) -> Path:
    """Returns the folder of an SAE: of a path that exists, else of a name on the Hugging Face Hub.

    Raises:
        WrongInput: there is no SAE of that path or name.
    """
    if is_hub_name(str(path)) and not Path(path).exists():
        return sae_folder(fetched(str(path)))
    return sae_folder(path)


def read_config(folder: Path) -> tuple[SAEConfig, str | None]:
    """Returns the config of an SAE in the files of distsae, and the digest of its weights, None if it has none.

    Raises:
        TornData: it is damaged; the text names it.
    """
    try:
        content = read_json_object(folder / CONFIG)
        return typed(SAEConfig, content), typed(SAEDigest, content).weights_sha256
    except (WrongField, WrongInput) as error:
        raise TornData(f"{folder / CONFIG} is not the config of an SAE: {error}") from None


@contextlib.contextmanager
def opened_weights(folder: Path) -> Iterator[tuple[SAEConfig, FileWeights]]:
    """Yields config and weights of an SAE in the files of distsae; the weights stay in the file.

    They are read once in blocks, to compare them with their digest and to look for numbers that are not finite.

    Raises:
        TornData: a file is damaged, or is not what an SAE has; the text names it.
    """
    cfg, digest = read_config(folder)
    file = folder / WEIGHTS
    with SafetensorsFile(file) as opened:
        source = FileWeights(opened)
        names = source.names()
        if other := sorted({*REQUIRED}.symmetric_difference(names).difference(OPTIONAL)):
            raise TornData(f"{file} must have the tensors of an SAE; got {other[0]!a} missing or as well")
        shapes = {name: torch.empty(source.shape(name), dtype=source.dtype(name), device="meta") for name in names}
        try:
            check_tensors(cfg, **{name: shapes.get(name) for name in (*REQUIRED, *OPTIONAL)})  # type: ignore[arg-type]
        except WrongInput as error:
            raise TornData(f"{file} does not go with {CONFIG}: {error}") from None
        if digest is not None and source_digest(source) != digest:
            raise TornData(f"{file} is damaged: the digest of its weights is not the one in the SAE's config.json")
        for name in names:
            for _, block in row_blocks(source, name):
                refuse_broken(file, {name: block})
        yield cfg, source


def read_sae(path: str | Path, given: Given) -> tuple[SAEConfig, dict[str, Tensor], Path]:
    """Returns config and tensors of an SAE, on the CPU, and the folder that they are from.

    Args:
        path: folder of an SAE of distsae or another tool, or of a run; or a name on the Hub.
        given: what the user says of an SAE of another tool.

    Raises:
        WrongInput: there is no SAE, or none that can be carried over, or its files do not say what is needed.
        TornData: a file is damaged; the text names it.
    """
    folder = folder_of(path)
    if is_complete(folder):
        cfg, digest = read_config(folder)
        return cfg, read_weights(folder / WEIGHTS, digest), folder
    found = foreign_format(folder)
    assert found is not None
    assert found.read is not None
    foreign = found.read(folder)
    return foreign.config(given), foreign.tensors, folder
