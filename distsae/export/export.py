"""Runs an export: the weights go from file to file in blocks, so an SAE of any width needs little memory."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from distsae.export.config import ExportConfig
from distsae.export.figures import measurements
from distsae.model import SAEConfig
from distsae.model.formats.folder_writing import refuse_taken, refuse_unholdable, write_folder
from distsae.model.formats.foreign_sae import Given
from distsae.model.formats.model_card import Measurements
from distsae.model.formats.weight_source import MemoryWeights, WeightSource
from distsae.model.hub import make_repository, push
from distsae.model.sae_files import IN_RUN, is_complete
from distsae.model.sae_reading import folder_of, opened_weights, read_sae
from distsae.progress import Progress

__all__ = ["export"]


def export(config: ExportConfig) -> str:
    """Exports an SAE, and returns where it is: the folder, or the address of the commit.

    Raises:
        WrongInput: there is no SAE, the tool cannot hold it, the folder is taken, or the server refuses this user.
        TornData: a file of the SAE is damaged; the text names it.
        CannotContinue: the files cannot be written, or the server does not answer.
    """
    folder = folder_of(config.run, "run")
    if config.out is not None:
        refuse_taken(Path(config.out))
    if not is_complete(folder):
        cfg, tensors, _ = read_sae(config.run, Given(), "run")
        return _export(config, cfg, MemoryWeights(tensors), Measurements())
    run = folder.parent if folder.name == IN_RUN else folder
    with opened_weights(folder) as (cfg, source):
        return _export(config, cfg, source, measurements(run, cfg))


def _export(config: ExportConfig, cfg: SAEConfig, source: WeightSource, measured: Measurements) -> str:
    if config.model is not None:
        cfg = dataclasses.replace(cfg, model_name=config.model)
    to = "safetensors" if config.to == "hub" else config.to
    size = refuse_unholdable(cfg, source, to, config.dtype)
    if config.repo is not None:
        make_repository(config.repo, private=config.private)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "sae" if config.out is None else Path(config.out)
        with Progress(size, "export", "bytes") as progress:
            write_folder(
                cfg,
                source,
                to,
                out,
                dtype=config.dtype,
                licence=config.license,
                measured=measured,
                advance=progress.advance,
            )
        if config.repo is None:
            return str(out)
        return push(out, config.repo, config.path_in_repo)
