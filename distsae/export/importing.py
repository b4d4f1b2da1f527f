"""Runs an import: another tool's SAE is read, checked, given what its files do not say, and saved as one of distsae."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from distsae.errors import WrongInput
from distsae.export.config import ImportConfig
from distsae.model import SAE, SAEConfig
from distsae.model.formats.folder_writing import refuse_taken, write_folder
from distsae.model.formats.foreign_sae import Given
from distsae.model.formats.weight_source import MemoryWeights
from distsae.model.sae_on_store import refuse_other_store
from distsae.model.sae_reading import read_sae
from distsae.store import Store
from distsae.training.freezing.heldout_rows import heldout_rows

__all__ = ["import_sae", "measured_l0"]

_ROWS = 1 << 12
"""Rows whose features are counted at once."""

_MOST_ROWS = 1 << 14


def import_sae(config: ImportConfig) -> tuple[SAEConfig, float | None]:
    """Imports an SAE; returns its config, and the mean features per token on the store, None without one.

    Raises:
        WrongInput: there is no SAE, or none that can be carried over; its files do not say what is needed; the folder
            is taken; or the store has no rows for it.
        TornData: a file is damaged; the text names it.
        CannotContinue: the files cannot be written.
    """
    refuse_taken(Path(config.out))
    store = None if config.store is None else Store.open(config.store)
    given = Given(
        k=1 if store is not None else config.k,  # until it is measured
        hook=config.hook,
        model=config.model,
        context_size=config.context_size,
        prepend_bos=config.prepend_bos,
    )
    cfg, tensors, folder = read_sae(config.sae, given, "sae")
    if not cfg.hook_name:
        raise WrongInput(
            f"`hook` must be given, because the files in {folder} do not name one that is known; got none; give one as "
            "in --hook blocks.11.resid_post"
        )
    found = None
    if store is not None:
        found = measured_l0(SAE(cfg, **tensors), store)
        cfg = dataclasses.replace(cfg, k=min(max(round(found), 1), cfg.d_sae))
    write_folder(cfg, MemoryWeights(tensors), "safetensors", Path(config.out))
    return cfg, found


def measured_l0(sae: SAE, store: Store) -> float:
    """Returns the mean features per token of an SAE on held-out rows of a store.

    Raises:
        WrongInput: the store has no such rows.
    """
    hook = sae.cfg.hook_name
    refuse_other_store(sae.cfg, store)
    rows, _ = heldout_rows(store, hook, calibration_tokens=_MOST_ROWS, judging_tokens=0)
    if not len(rows):
        raise WrongInput(f"`store` (={store.path}) must have held-out rows; got none; give `k` instead")
    matched = 0
    for part in torch.split(rows, _ROWS):
        matched += len(sae.matches(part.to(torch.float32)))
    return matched / len(rows)
