"""The pass over one part: its rows are encoded in blocks, and of the matches only what pages show is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distsae.allocation import Matches
from distsae.model import SAE
from distsae.reporting.features.activation_histogram import counted
from distsae.reporting.features.firing_contexts import FiringContexts
from distsae.reporting.features.part_result import PartResult
from distsae.reporting.features.plan import Part
from distsae.reporting.features.row_blocks import row_blocks
from distsae.store import Store, UnitContexts

__all__ = ["PassSettings", "part_result"]


@dataclass(frozen=True, kw_only=True)
class PassSettings:
    """What a pass keeps.

    Args:
        hook: hook whose activations are encoded.
        top_contexts: top contexts of each feature.
        sampled_contexts: contexts of each feature in its uniform sample.
        correlation_contexts: contexts, the first of the pass, that are in the sample for co-activation.
    """

    hook: str
    top_contexts: int
    sampled_contexts: int
    correlation_contexts: int


def part_result(sae: SAE, store: Store, contexts: UnitContexts, part: Part, settings: PassSettings) -> PartResult:
    """Encodes the rows of a part and returns what is kept of them.

    Rows of tokens that the store excludes, and rows over the SAE's `max_norm`, are left out, as in an evaluation.

    Args:
        sae: SAE, on the device to work on.
        store: store of the rows.
        contexts: contexts of the part's unit.
        part: which contexts.
        settings: what is kept.
    """
    rows = 0
    sample_rows = 0
    found_parts = []
    ordinal = contexts.context - part.first + part.ordinal  # of each row of the unit, as far as it is in the part
    chosen = (contexts.context >= part.first) & (contexts.context < part.first + part.contexts)
    for x, index in row_blocks(store, settings.hook, part.unit, contexts, chosen, sae.cfg.max_norm):
        found = sae.matches(x.to(sae.device))
        rows += len(index)
        sample_rows += int((ordinal[index] < settings.correlation_contexts).sum())
        found_parts.append(Matches(index[found.token.cpu()], found.feature.cpu(), found.score.cpu()))
    none = torch.empty(0, dtype=torch.int64)
    found = Matches.joined([Matches(none, none, torch.empty(0)), *found_parts])  # tokens are rows of the unit
    found = found.picked(_order(found.feature, ordinal[found.token], contexts.ids.position[found.token]))
    row, feature = found.token, found.feature.numpy()
    context, position = ordinal[row].numpy(), contexts.ids.position[row].numpy()
    score = found.score.numpy()
    firing = FiringContexts.of_matches(
        feature,
        context,
        position,
        score,
        context_id=contexts.ids.context_id[row].numpy(),
        document_id=contexts.ids.document_id[row].numpy(),
    )
    kept = np.union1d(firing.top(settings.top_contexts), firing.sample(settings.sampled_contexts))
    bin_feature, bins, bin_count = counted(feature, score)
    in_sample = context < settings.correlation_contexts
    d_sae = sae.cfg.d_sae
    return PartResult(
        rows=rows,
        count=np.bincount(feature, minlength=d_sae),
        total=np.bincount(feature, weights=score.astype(np.float64), minlength=d_sae).astype(np.float64),
        bin_feature=bin_feature,
        bin=bins,
        bin_count=bin_count,
        kept=firing.picked(kept),
        sample_rows=sample_rows,
        pair_row=(context * store.attributes.context_length + position)[in_sample],
        pair_feature=feature[in_sample],
    )


def _order(feature: Tensor, context: Tensor, position: Tensor) -> Tensor:
    """Returns the order of matches by feature, context and position."""
    return torch.from_numpy(np.lexsort((position.numpy(), context.numpy(), feature.numpy())))
