"""The gap between the training rule and the frozen rule: L0 and FVU of both on held-out tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, Selector, ThresholdSelector, select
from distsae.batches import Normalisation
from distsae.training.freezing.heldout_rows import mesh_for_rows
from distsae.training.state import TrainingState

__all__ = ["FrozenGap", "frozen_gap"]


_LARGE_GAP = 0.2
"""Share by which L0 or FVU of the frozen rule may be off before the user is warned."""


@dataclass(frozen=True)
class FrozenGap:
    """L0 and FVU of both rules on held-out tokens; the FVU is that of raw activations.

    Args:
        rows: number of tokens.
        l0: matches per token under the frozen rule; None without tokens.
        l0_training: matches per token under the training rule, in batches as large as in training; None without tokens.
        fvu: `sum ||x - x_hat||^2 / sum ||x - mean||^2` under the frozen rule, with the mean of these tokens; None
            without tokens, or if all tokens are equal.
        fvu_training: the same ratio under the training rule.
    """

    rows: int
    l0: float | None = None
    l0_training: float | None = None
    fvu: float | None = None
    fvu_training: float | None = None

    def sentence(self) -> str:
        """Returns a line for the user."""
        if not self.rows:
            return "frozen rule: neither calibrated nor measured, since the store has no held-out rows"
        if self.fvu is None:
            fvu = "FVU unknown, since these rows are all equal"
        else:
            fvu = f"FVU {self.fvu:.4f} ({self.fvu_training:.4f})"
        l0 = f"L0 {self.l0:.2f} (training rule {self.l0_training:.2f})"
        return f"frozen rule on {self.rows:,} held-out rows: {l0}, {fvu}"

    def warning(self) -> str | None:
        """Returns a line for the user if the rules differ so much that the SAE is not the one that was trained."""
        if self.l0 is None or self.l0_training is None or self.fvu is None or self.fvu_training is None:
            return None
        other_l0 = abs(self.l0 - self.l0_training) > _LARGE_GAP * self.l0_training
        if not other_l0 and self.fvu <= (1 + _LARGE_GAP) * self.fvu_training:
            return None
        return (
            f"warning: the SAE selects by fixed thresholds, and these do not do what the training rule does: L0 "
            f"{self.l0:.4g} instead of {self.l0_training:.4g}, FVU {self.fvu:.4g} instead of {self.fvu_training:.4g}; "
            "train for more steps, or use a smaller `sae.k`"
        )


@torch.no_grad()
def frozen_gap(state: TrainingState, threshold: Tensor | None, rows: Tensor, normalisation: Normalisation) -> FrozenGap:
    """Measures both rules in one pass over the encoder, without changing the state. Collective.

    Results do not depend on the mesh. The training rule is applied to batches as large as those of the run.

    Args:
        state: state of the training; its current rule and quotas are measured.
        threshold: thresholds of this rank's features, fp32 `[d_sae_local]`; None if the frozen rule is the training
            rule, as for Token Choice.
        rows: raw held-out activations, `[rows, d_in]`, equal on all ranks; those that training leaves out are not among
            them.
        normalisation: normalisation of the activations in training.
    """
    config = state.config
    shard = state.shard
    device = shard.b_dec.device
    number = rows.shape[0]
    if not number:
        return FrozenGap(0)
    mesh = mesh_for_rows(state.mesh, number)
    training = state.phases.fresh_selector()
    credit = state.phases.fresh_credit()
    selectors: list[Selector] = [training, *([ThresholdSelector(threshold)] if threshold is not None else [])]
    totals = torch.zeros(len(selectors), 2, dtype=torch.float64, device=device)  # matches, squared error
    for batch in torch.split(rows, config.batch_tokens):
        tokens = batch.shape[0] // mesh.data.size
        raw = batch[mesh.data.rank * tokens : (mesh.data.rank + 1) * tokens].to(device, shard.b_dec.dtype)
        scales = normalisation.scales(raw)
        local = normalisation.apply(raw.clone())
        if credit is not None and isinstance(training, FeatureSelector):
            training.grant(credit.pay(tokens * mesh.data.size).to(device))
        chunks = partial(shard.encode_chunks, local - shard.b_dec)
        selected = select(selectors, chunks, mesh.placement(shard.d_sae, tokens), tokens)
        for total, matches in zip(totals, selected, strict=True):
            x_hat = mesh.feature.sum(shard.kernels.decode(matches.by_token(), shard.W_dec, tokens)) + shard.b_dec
            matched = mesh.feature.sum(torch.full((), float(len(matches)), dtype=torch.float64, device=device))
            error = (x_hat - local).double().mul_(scales.double())
            total += mesh.data.sum(torch.stack([matched, error.square().sum()]))
    mean = rows.mean(0, dtype=torch.float64)
    energy = sum(float((batch.double() - mean).square().sum()) for batch in torch.split(rows, config.batch_tokens))
    figures = [(matches / number, error / energy if energy > 0 else None) for matches, error in totals.tolist()]
    (l0_training, fvu_training), (l0, fvu) = figures[0], figures[-1]
    return FrozenGap(number, l0, l0_training, fvu, fvu_training)
