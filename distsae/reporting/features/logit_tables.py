"""The tokens that features promote and suppress: the direct effect of their decoder rows on the logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distsae.language_model import OutputHead
from distsae.reporting.features.largest_of_rows import largest_of_rows

__all__ = ["HISTOGRAM_BARS", "LogitTables", "logit_tables"]

HISTOGRAM_BARS = 50

_ELEMENTS = 1 << 23


@dataclass(frozen=True, kw_only=True)
class LogitTables:
    """Direct effects of features on the logits.

    Args:
        promoted: token ids with the largest effects, int64 `[features, tokens]`, the largest first, ties by id.
        promotion: their effects, fp32 `[features, tokens]`.
        suppressed: token ids with the smallest effects, the smallest first.
        suppression: their effects.
        bar_heights: tokens in each of `HISTOGRAM_BARS` bins of equal width, from the smallest effect to the largest,
            int64 `[features, bars]`; no bars unless they were asked for.
        bar_values: middles of the bins, fp32 `[features, bars]`.
    """

    promoted: NDArray[np.int64]
    promotion: NDArray[np.float32]
    suppressed: NDArray[np.int64]
    suppression: NDArray[np.float32]
    bar_heights: NDArray[np.int64]
    bar_values: NDArray[np.float32]


@torch.no_grad()
def logit_tables(
    head: OutputHead, W_dec: Tensor, most: int, vocabulary: int, with_histogram: bool = True
) -> LogitTables:
    """Returns the tables of some features.

    Args:
        head: output head of the language model, on the device of `W_dec`.
        W_dec: decoder rows of the features, fp32 `[features, width]`.
        most: tokens wanted on either side.
        vocabulary: number of token ids that the tokenizer has; embeddings behind them belong to no token.
        with_histogram: whether histograms are wanted, which take as long as the tables.
    """
    parts = []
    step = max(_ELEMENTS // len(head.unembedding), 1)
    for start in range(0, len(W_dec), step):
        effects = head.effects(W_dec[start : start + step])[:, :vocabulary]
        promoted, promotion = largest_of_rows(effects, most)
        suppressed, suppression = largest_of_rows(-effects, most)
        parts.append((promoted, promotion, suppressed, -suppression, *_histogram(effects, with_histogram)))
    return LogitTables(
        **{
            name: np.concatenate([part[column] for part in parts])
            for column, name in enumerate(LogitTables.__dataclass_fields__)
        }
    )


def _histogram(effects: Tensor, wanted: bool) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if not wanted:
        return np.empty((len(effects), 0), np.int64), np.empty((len(effects), 0), np.float32)
    low, high = effects.aminmax(dim=1, keepdim=True)
    width = (high - low).clamp_min(torch.finfo(torch.float32).tiny) / HISTOGRAM_BARS
    bins = ((effects - low) / width).long().clamp_max(HISTOGRAM_BARS - 1)
    heights = torch.zeros(len(effects), HISTOGRAM_BARS, dtype=torch.int64, device=effects.device)
    heights.scatter_add_(1, bins, torch.ones_like(bins))
    values = low + width * (torch.arange(HISTOGRAM_BARS, device=effects.device) + 0.5)
    return heights.cpu().numpy(), values.float().cpu().numpy()
