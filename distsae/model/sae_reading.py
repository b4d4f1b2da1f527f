"""Reads an SAE from a path or from the Hub, in the files of distsae or of another tool.

Wherever a user names an SAE, this is how the name is understood. A path that exists wins; then `user/repository` and
`user/repository/folder` are on the Hub, and `saelens:RELEASE/SAE_ID` is an SAE of one of SAELens's releases.
"""

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
from distsae.model.formats.saelens_releases import PREFIX, ReleasedSAE, read_released, released_sae
from distsae.model.formats.weight_source import FileWeights, row_blocks
from distsae.model.hub import fetched, is_hub_name, parts_of_name
from distsae.model.sae_config import SAEConfig
from distsae.model.sae_digest import OPTIONAL, REQUIRED, SAEDigest, read_weights, refuse_broken, source_digest
from distsae.model.sae_files import CONFIG, WEIGHTS, is_complete, sae_folder
from distsae.model.sae_tensors import check_tensors

__all__ = ["folder_of", "is_fetched", "opened_weights", "read_config", "read_sae", "refuse_to_write_there"]


def is_fetched(path: str | Path) -> bool:
    """Returns whether a path is a name instead: of an SAE on the Hub or in a release of SAELens.

    A path that exists is never taken for a name.
    """
    return str(path).startswith(PREFIX) or (is_hub_name(str(path)) and not Path(path).exists())


def folder_of(path: str | Path, option: str | None = None) -> Path:
    """Returns the folder of an SAE: of a path that exists, else of a name on the Hugging Face Hub.

    Args:
        path: folder of an SAE or of the run that trained it; `user/repository` or `user/repository/folder`; or
            `saelens:RELEASE/SAE_ID`.
        option: name of the option that the user gave it with, for the error; None for one without.

    Raises:
        WrongInput: there is no SAE of that path or name.
    """
    return _found(path, option)[0]


def refuse_to_write_there(path: str | Path, option: str) -> None:
    """Refuses to write beside an SAE that has no place of its own here, as its folder is in the Hub's cache.

    Args:
        path: what the user gave for the SAE.
        option: name of the option that it was given with.

    Raises:
        WrongInput: it is a name instead of a path.
    """
    if is_fetched(path):
        raise WrongInput(
            f"`out` must be given with `{option}` (={path}), an SAE of the Hub without a folder of its own here; got "
            "none; give --out"
        )


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


def read_sae(path: str | Path, given: Given, option: str | None = None) -> tuple[SAEConfig, dict[str, Tensor], Path]:
    """Returns config and tensors of an SAE, on the CPU, and the folder that they are from.

    Args:
        path: folder of an SAE of distsae or another tool, or of a run; or a name, as `folder_of` takes it.
        given: what the user says of an SAE of another tool.
        option: name of the option that the user gave `path` with, for the error; None for one without.

    Raises:
        WrongInput: there is no SAE, or none that can be carried over, or its files do not say what is needed.
        TornData: a file is damaged; the text names it.
    """
    folder, released = _found(path, option)
    if is_complete(folder):
        cfg, digest = read_config(folder)
        return cfg, read_weights(folder / WEIGHTS, digest), folder
    found = foreign_format(folder)
    assert found is not None
    assert found.read is not None
    foreign = found.read(folder) if released is None else read_released(folder, released)
    return foreign.config(given), foreign.tensors, folder


def _found(path: str | Path, option: str | None) -> tuple[Path, ReleasedSAE | None]:
    """Returns the folder of an SAE, and what SAELens's table says of one that was given by its name there."""
    text = str(path)
    subject = f"`{text}`" if option is None else f"`{option}` (={text})"
    if text.startswith(PREFIX):
        released = released_sae(text)
        return sae_folder(fetched(released.repo, released.folder, subject), option), released
    if is_fetched(text):
        return sae_folder(fetched(*parts_of_name(text), subject), option), None
    return sae_folder(path, option), None
