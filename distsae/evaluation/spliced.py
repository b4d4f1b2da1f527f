"""How much worse the language model predicts when it gets the reconstruction instead of the activation.

Loss recovered is `(ce_ablated - ce_spliced) / (ce_ablated - ce_clean)`: 1 if the reconstruction is as good as the
activation, 0 if it is no better than the ablation (zeros, or the mean activation). All cross-entropies of a ratio are
taken over the same predicted tokens, and all interventions replace the same positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from distsae.errors import WrongInput
from distsae.evaluation.bootstrap import Array, Statistic
from distsae.language_model import splice

__all__ = ["capture_with_losses", "loss_recovered", "mean_loss", "spliced_losses"]


@torch.no_grad()
def capture_with_losses(model: Any, hook: str, token_ids: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Runs the unchanged model once.

    Args:
        model: a causal language model of transformers.
        hook: name of the hook.
        token_ids: `[contexts, length]` int64, on the model's device.

    Returns:
        The activations at the hook, `[contexts, length, d_in]`, and the losses, `[contexts, length - 1]`, as
        `spliced_losses` returns them.

    Raises:
        WrongInput: a forward pass runs the hooked module more than once, or never.
    """
    kept: list[Tensor] = []

    def keep(activations: Tensor) -> Tensor:
        kept.append(activations.clone())  # later layers may change the tensor in place
        return activations

    with splice(model, hook, keep):
        losses = _token_losses(model, token_ids)
    if len(kept) != 1:
        raise WrongInput(
            f"`hook` (={hook}) must run once in a forward pass; got {len(kept)} times; choose another hook"
        )
    return kept[0], losses


@torch.no_grad()
def spliced_losses(
    model: Any,  # noqa: ANN401
    hook: str,
    token_ids: Tensor,
    replacement: Tensor,
    first_position: int,
) -> Tensor:
    """Runs the model with `replacement` at the hook from `first_position` on; earlier positions stay as they are.

    Args:
        model: a causal language model of transformers.
        hook: name of the hook.
        token_ids: `[contexts, length]` int64, on the model's device.
        replacement: activations to put in; they broadcast to `[contexts, length - first_position, d_in]`.
        first_position: first position that is replaced.

    Returns:
        Losses in nats, `[contexts, length - 1]` float32: entry `p` is the cross-entropy of token `p + 1`.
    """

    def replace(activations: Tensor) -> Tensor:
        spliced = activations.clone()
        spliced[:, first_position:] = replacement.to(activations.dtype)
        return spliced

    with splice(model, hook, replace):
        return _token_losses(model, token_ids)


def _token_losses(model: Any, token_ids: Tensor) -> Tensor:  # noqa: ANN401
    logits = model(input_ids=token_ids, use_cache=False).logits
    # One context at a time, since a float32 copy of all logits would be the largest tensor of the evaluation.
    losses = [
        functional.cross_entropy(row[:-1].float(), ids[1:], reduction="none")
        for row, ids in zip(logits, token_ids, strict=True)
    ]
    return torch.stack(losses)


def mean_loss(name: str) -> Statistic:
    """Returns the statistic `sum of losses / predictions` for the summed losses called `name`."""

    def statistic(sums: Mapping[str, Array]) -> Array:
        return sums[name] / sums["predictions"]

    return statistic


def loss_recovered(spliced: str, ablated: str, clean: str = "ce_clean") -> Statistic:
    """Returns the statistic loss recovered; it is NaN where the ablation costs nothing, since nothing can be recovered.

    Args:
        spliced: name of the summed losses with the reconstruction.
        ablated: name of the summed losses with the ablation.
        clean: name of the summed losses of the unchanged model; all three are over the same predictions.
    """

    def statistic(sums: Mapping[str, Array]) -> Array:
        lost = sums[ablated] - sums[clean]
        out = np.full(np.shape(lost), np.nan)
        np.divide(sums[ablated] - sums[spliced], lost, out=out, where=lost != 0)
        return out

    return statistic
