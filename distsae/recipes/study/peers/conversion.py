"""A peer's weights as an SAE of distsae, with a frozen rule that is calibrated like ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distsae.allocation import MutualSelector, Placement, select
from distsae.batches import Normalisation
from distsae.model import SAE, SELECTION_MB, SAEConfig, needs_threshold, score_chunks

__all__ = ["Converted", "converted", "judged"]

_ROWS = 1 << 13
"""Rows that are measured at once."""

_PROBED = 1 << 10
"""Rows on which a peer's own threshold is tried, which may let every feature fire."""


@dataclass(frozen=True)
class Converted:
    """The SAE, and what its thresholds are.

    Args:
        sae: SAE on raw activations.
        own_threshold: threshold that the peer has kept, on the rows that it was given; None if it keeps none.
        own_l0: matches per token with that threshold; None if it is not positive.
        threshold: threshold of the frozen rule, on the same rows; None for Token Choice.
    """

    sae: SAE
    own_threshold: float | None
    own_l0: float | None
    threshold: float | None

    def facts(self) -> dict[str, Any]:
        """Returns what is recorded."""
        return {name: getattr(self, name) for name in ("own_threshold", "own_l0", "threshold")}


def converted(
    weights: Mapping[str, Tensor], cfg: SAEConfig, normalisation: Normalisation, calibration: Tensor
) -> Converted:
    """Folds the normalisation into a peer's weights, and calibrates its frozen rule.

    A peer that selects from batches gets one threshold for all features, with which held-out rows have `k` matches on
    average, as Mutual Choice does: what peers keep themselves is off, or not set at all, after a short training. The
    peer's own threshold is tried for the record.

    Args:
        weights: what `weights` of its trainer returned.
        cfg: config of the SAE.
        normalisation: normalisation of the rows that the peer was given.
        calibration: raw held-out rows, fp32 `[rows, d_in]`; not needed for Token Choice.
    """
    W_enc, W_dec = weights["W_enc"].contiguous(), weights["W_dec"].contiguous()
    b_enc, b_dec = weights["b_enc"], weights["b_dec"]
    own = float(weights["threshold"]) if "threshold" in weights else None
    own_l0, cut = None, None
    if needs_threshold(cfg.allocation):
        centred = normalisation.apply(calibration.clone()) - b_dec
        if own is not None and math.isfinite(own) and own > 0:
            pre_acts = centred[:_PROBED] @ W_enc + b_enc
            own_l0 = float((pre_acts > own).sum()) / pre_acts.shape[0]
        cut = _cut(W_enc, b_enc, centred, cfg.k)
    scale = normalisation.scale
    sae = SAE(
        cfg,
        W_enc=W_enc,
        W_dec=W_dec,
        b_enc=b_enc / scale,
        b_dec=normalisation.undo(b_dec),
        threshold=None if cut is None else torch.full((cfg.d_sae,), cut / scale),
    )
    return Converted(sae, own, own_l0, cut)


def _cut(W_enc: Tensor, b_enc: Tensor, centred: Tensor, k: int) -> float:
    """Returns the smallest of the `k` largest scores a row, over all rows together."""
    selector = MutualSelector(k)
    tokens = centred.shape[0]
    chunks = lambda: score_chunks(W_enc.t(), b_enc, centred, SELECTION_MB)  # noqa: E731
    select([selector], chunks, Placement.solo(b_enc.shape[0]), tokens)
    return 0.0 if selector.cut is None else float(selector.cut)


@torch.no_grad()
def judged(sae: SAE, rows: Tensor, batch_tokens: int) -> dict[str, float | int | None]:
    """Returns L0 and FVU of both rules on held-out rows, as `frozen_rule.json` of a run has them.

    Args:
        sae: the SAE.
        rows: raw held-out rows, `[rows, d_in]`.
        batch_tokens: rows over which the training rule shares its budget.
    """
    mean = rows.mean(0, dtype=torch.float64)
    energy = float((rows.double() - mean).square().sum())
    found: dict[str, float | int | None] = {"rows": rows.shape[0]}
    for suffix, rule, size in (("", "frozen", _ROWS), ("_training", "training", batch_tokens)):
        matched, error = 0, 0.0
        for x in torch.split(rows.float(), size):
            matches = sae.matches(x, rule=rule)  # type: ignore[arg-type]
            matched += len(matches)
            error += float((sae.decode_matches(matches, x) - x).double().square().sum())
        found[f"l0{suffix}"] = matched / rows.shape[0]
        found[f"fvu{suffix}"] = error / energy if energy > 0 else None
    return found
