"""Compares an SAE here with what another tool makes of its exported folder, on the same rows."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distsae.model import SAE

ENVIRONMENT = {"SPARSIFY_DISABLE_TRITON": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}


@dataclass(frozen=True)
class ToolsView:
    """What a tool makes of a folder.

    Args:
        on: features that fire, bool `[rows, d_sae]`.
        acts: their feature activations, 0 where they do not fire.
        x_hat: the reconstruction, `[rows, d_in]`.
    """

    on: Tensor
    acts: Tensor
    x_hat: Tensor


def tools_view(python: str, tool: str, folder: Path, x: Tensor, d_sae: int, scratch: Path) -> ToolsView:
    """Loads a folder with a tool in its own environment, and runs its own forward."""
    rows, out = scratch / "rows.npy", scratch / "out.npz"
    np.save(rows, x.numpy())
    _run(python, "peer_side.py", {"tool": tool, "folder": str(folder), "rows": str(rows), "out": str(out)})
    with np.load(out) as content:
        on = torch.from_numpy(np.unpackbits(content["on"], count=len(x) * d_sae).astype(bool)).reshape(len(x), d_sae)
        acts = torch.zeros(len(x), d_sae)
        acts[on] = torch.from_numpy(content["acts"])
        return ToolsView(on, acts, torch.from_numpy(content["x_hat"]))


def train_theirs(python: str, tool: str, kind: str, folder: Path, x: Tensor, scratch: Path, **job: int) -> None:
    """Trains an SAE on rows with a tool's own trainer, and saves it with its own function."""
    rows = scratch / "training_rows.npy"
    np.save(rows, x.numpy())
    _run(python, "peer_trains.py", {"tool": tool, "kind": kind, "folder": str(folder), "rows": str(rows), **job})


def _run(python: str, script: str, job: dict[str, object]) -> None:
    command = [python, str(Path(__file__).with_name(script)), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]


@dataclass(frozen=True)
class Agreement:
    """How far a tool and distsae agree.

    Args:
        matches: features on, over all rows, here.
        differing: pairs of row and feature that are on in one of them only.
        x_hat: largest difference of the reconstruction of a row with equal features, as a share of its norm.
        acts: the same for feature activations.
    """

    matches: int
    differing: int
    x_hat: float
    acts: float


@torch.no_grad()
def agreement(sae: SAE, x: Tensor, view: ToolsView, *, normalised_acts: bool) -> Agreement:
    """Compares; `normalised_acts` says that the tool's feature activations are those of normalised rows."""
    here, x_hat = sae.encode(x), sae(x)
    on = here > 0
    if normalised_acts:
        here = here / (torch.linalg.vector_norm(x, dim=1, keepdim=True) / x.shape[1] ** 0.5)
    same = (on == view.on).all(1)
    return Agreement(
        matches=int(on.sum()),
        differing=int((on != view.on).sum()),
        x_hat=_largest(x_hat[same] - view.x_hat[same], x_hat[same]),
        acts=_largest(here[same] - view.acts[same], here[same]),
    )


def _largest(difference: Tensor, whole: Tensor) -> float:
    norms = torch.linalg.vector_norm(whole, dim=1).clamp(min=1e-30)
    return float((torch.linalg.vector_norm(difference, dim=1) / norms).max())


def fvu(x: Tensor, x_hat: Tensor) -> float:
    """Returns the fraction of variance unexplained."""
    return float((x_hat - x).double().square().sum() / (x.double() - x.double().mean(0)).square().sum())
