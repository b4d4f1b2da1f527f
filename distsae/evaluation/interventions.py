"""What the language model loses when activations at chosen positions are replaced, summed over each context."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from distsae.evaluation.next_token import divergences, token_losses
from distsae.evaluation.positions import Positions
from distsae.evaluation.spliced_model import CleanPass, SplicedModel

__all__ = ["Ablated", "Interventions"]

Ablated = dict[str, dict[str, Tensor]]
"""Sums of ablations that have been measured, by a digest of contexts, positions and mean; one model and hook."""


class Interventions:
    """Ablations and reconstructions; what is predicted from the replaced positions is what counts.

    Args:
        model: the language model.
        mean: activation that mean ablation puts in, `[d_in]` float32, on the model's device.
        ablated: ablations that are known, to which others are added. No SAE has a part in them, so evaluations of
            several SAEs may share them; with None each is measured.
    """

    def __init__(self, model: SplicedModel, mean: Tensor, ablated: Ablated | None = None) -> None:
        self._model = model
        self._mean = mean
        self._ablated = ablated

    def ablations(self, clean: CleanPass, positions: Positions) -> dict[str, Tensor]:
        """Returns `predictions`, `ce_clean`, `ce_zero` and `ce_mean` of each context, `[contexts]` float64."""
        if self._ablated is None:
            return self._measured(clean, positions)
        parts = (clean.token_ids, positions.chosen, self._mean)
        digest = hashlib.sha256(b"".join(part.cpu().numpy().tobytes() for part in parts)).hexdigest()
        if digest not in self._ablated:
            self._ablated[digest] = self._measured(clean, positions)
        return dict(self._ablated[digest])

    def _measured(self, clean: CleanPass, positions: Positions) -> dict[str, Tensor]:
        return {
            "predictions": positions.total(torch.ones_like(clean.losses)),
            "ce_clean": positions.total(clean.losses),
            "ce_zero": positions.total(self._losses(clean, positions, torch.zeros_like(self._mean))),
            "ce_mean": positions.total(self._losses(clean, positions, self._mean)),
        }

    def reconstruction(self, clean: CleanPass, positions: Positions, x_hat: Tensor) -> dict[str, Tensor]:
        """Returns `ce_spliced` of each context, `[contexts]` float64.

        Args:
            clean: what the unchanged model gave.
            positions: positions to replace, and to predict from.
            x_hat: reconstruction at these positions, `[contexts, length, d_in]`.
        """
        return {"ce_spliced": positions.total(self._losses(clean, positions, x_hat))}

    def compared(
        self, clean: CleanPass, clean_logits: Tensor, positions: Positions, x_hat: Tensor
    ) -> dict[str, Tensor]:
        """Returns `ce_spliced` as `reconstruction` does, and `kl`, the divergence from the unchanged model.

        Args:
            clean: what the unchanged model gave.
            clean_logits: its logits, `[contexts, length, vocabulary]`.
            positions: positions to replace, and to predict from.
            x_hat: reconstruction at these positions, `[contexts, length, d_in]`.
        """
        logits = self._logits(clean, positions, x_hat)
        return {
            "ce_spliced": positions.total(token_losses(logits, clean.token_ids)),
            "kl": positions.total(divergences(clean_logits, logits)),
        }

    def _losses(self, clean: CleanPass, positions: Positions, replacement: Tensor) -> Tensor:
        return token_losses(self._logits(clean, positions, replacement), clean.token_ids)

    def _logits(self, clean: CleanPass, positions: Positions, replacement: Tensor) -> Tensor:
        return self._model.spliced_logits(clean, positions.replaced(clean.activations, replacement))
