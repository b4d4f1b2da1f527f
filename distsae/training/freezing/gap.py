"""What freezing the rule changes: L0 and FVU on held-out tokens, by the training rule and by the thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, QuotaCredit, Selector, ThresholdSelector, select
from distsae.training.freezing.heldout_rows import mesh_for
from distsae.training.state import TrainingState

__all__ = ["FrozenGap", "frozen_gap"]


@dataclass(frozen=True)
class FrozenGap:
    """The frozen rule beside the training rule, on held-out tokens; None is what these tokens do not tell.

    Args:
        rows: tokens.
        l0: matches per token by the frozen rule.
        l0_training: by the training rule, in batches as in training.
        fvu: `sum ||x - x_hat||^2 / sum ||x - mean||^2` by the frozen rule, with the mean of these tokens;
            None if they are all the same.
        fvu_training: by the training rule.
    """

    rows: int
    l0: float | None = None
    l0_training: float | None = None
    fvu: float | None = None
    fvu_training: float | None = None

    def sentence(self) -> str:
        """Says it in a line."""
        if not self.rows:
            return "frozen rule: neither calibrated nor measured, since the store has no held-out rows"
        if self.fvu is None:
            fvu = "FVU unknown, since these rows are all the same"
        else:
            fvu = f"FVU {self.fvu:.4f} ({self.fvu_training:.4f})"
        l0 = f"L0 {self.l0:.2f} (training rule {self.l0_training:.2f})"
        return f"frozen rule on {self.rows:,} held-out rows: {l0}, {fvu}"


@torch.no_grad()
def frozen_gap(state: TrainingState, threshold: Tensor | None, x: Tensor) -> FrozenGap:
    """Measures both rules in one pass over the encoder. Collective, and the same on every mesh.

    The training rule selects from as many rows at once as a batch of the run has. The state is not changed.

    Args:
        state: training, whose rule and quotas are those now in force.
        threshold: frozen thresholds of this rank's features, fp32 `[d_sae_local]`; None if the training rule is the
            frozen one.
        x: held-out activations, normalised as in training, fp32 `[rows, d_in]`, equal on all ranks.
    """
    config = state.config
    shard = state.shard
    device = shard.b_dec.device
    rows = x.shape[0]
    if not rows:
        return FrozenGap(0)
    mesh = mesh_for(state.mesh, rows)
    training = state.phases.fresh_selector()
    quotas = state.phases.credit.quota_per_token if state.phases.credit is not None else None
    credit = QuotaCredit(quotas, config.sae.k, mesh.feature) if quotas is not None else None
    selectors: list[Selector] = [training, *([ThresholdSelector(threshold)] if threshold is not None else [])]
    totals = torch.zeros(len(selectors), 2, dtype=torch.float64, device=device)  # matches, squared error
    for block in torch.split(x, config.batch_tokens):
        tokens = block.shape[0] // mesh.data.size
        mine = block[mesh.data.rank * tokens : (mesh.data.rank + 1) * tokens].to(device)
        if credit is not None and isinstance(training, FeatureSelector):
            training.grant(credit.pay(tokens * mesh.data.size).to(device))
        chunks = partial(shard.encode_chunks, mine - shard.b_dec)
        for total, matches in zip(
            totals, select(selectors, chunks, mesh.placement(shard.d_sae, tokens), tokens), strict=True
        ):
            x_hat = mesh.feature.sum(shard.kernels.decode(matches.by_token(), shard.W_dec, tokens)) + shard.b_dec
            matched = mesh.feature.sum(torch.tensor(float(len(matches)), dtype=torch.float64, device=device))
            total += mesh.data.sum(torch.stack([matched, (x_hat - mine).double().square().sum()]))
    mean = x.mean(0, dtype=torch.float64)
    energy = sum(float((block.double() - mean).square().sum()) for block in torch.split(x, config.batch_tokens))
    numbers = [(matches / rows, error / energy if energy > 0 else None) for matches, error in totals.tolist()]
    (l0_training, fvu_training), (l0, fvu) = numbers[0], numbers[-1]
    return FrozenGap(rows, l0, l0_training, fvu, fvu_training)
