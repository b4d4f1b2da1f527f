"""An SAE and the store that it is looked at on: opened together, and refused if they do not belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from distsae.errors import WrongInput
from distsae.model.sae import SAE
from distsae.model.sae_config import SAEConfig
from distsae.model.sae_reading import folder_of, is_fetched
from distsae.store import Store

__all__ = ["SAEOnStore", "open_on_store", "refuse_other_store"]


@dataclass(frozen=True, kw_only=True)
class SAEOnStore:
    """An SAE and a store of its activations.

    Args:
        path: folder of the SAE; the name by which it was given, if it is one of the Hub.
        sae: the SAE, in eval mode, with weights in fp32: what fp16 or bf16 weights stand for, exactly.
        store: the sealed store.
    """

    path: Path
    sae: SAE
    store: Store


def open_on_store(run: str, store: str, device: torch.device, option: str = "run") -> SAEOnStore:
    """Opens an SAE and a sealed store.

    Args:
        run: what the user gave for the SAE: a path, or a name of the Hub.
        store: what the user gave as `store`.
        device: device to put the SAE on.
        option: name of the option that `run` was given with, for errors.

    Raises:
        WrongInput: one of them is missing, or they do not belong together.
        TornData: a file is damaged; the text names it.
    """
    folder = folder_of(run, option)
    opened = Store.open(store)
    sae = SAE.load(run).to(device).float().eval()
    if not sae.cfg.hook_name:
        raise WrongInput(
            f"`{option}` (={run}) must be an SAE whose hook is known; got another tool's files without it; "
            "use `distsae import` with its hook first"
        )
    refuse_other_store(sae.cfg, opened)
    return SAEOnStore(path=Path(run) if is_fetched(run) else folder, sae=sae, store=opened)


def refuse_other_store(cfg: SAEConfig, store: Store) -> None:
    """Checks that a store has activations of an SAE's hook and width.

    Raises:
        WrongInput: it has not.
    """
    store.require_hook(cfg.hook_name)
    if store.d_in(cfg.hook_name) != cfg.d_in:
        raise WrongInput(
            f"`store` (={store.path}) must hold activations as wide as the SAE's d_in {cfg.d_in}; got "
            f"{store.d_in(cfg.hook_name)} at {cfg.hook_name}; give the store of the SAE's model"
        )
