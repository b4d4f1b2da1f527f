"""Puts the pages of some features together from the results of all parts, the SAE's weights and the language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distsae.reporting.features.config import FeaturesConfig
from distsae.reporting.features.feature_page import FeaturePage, ShownContext
from distsae.reporting.features.firing_contexts import FiringContexts
from distsae.reporting.features.inputs import FeatureInputs
from distsae.reporting.features.largest_of_rows import largest_of_rows
from distsae.reporting.features.logit_tables import LogitTables, logit_tables
from distsae.reporting.features.neighbours import Coactivation, nearest_decoders
from distsae.reporting.features.part_result import FeatureSlice, read_pairs, read_slice

__all__ = ["OVERSAMPLED", "PageMaker", "spread"]

OVERSAMPLED = 4
"""Contexts in a feature's uniform sample for each that is shown: ranks of so many are close to quantiles."""

_ALIGNMENT = 3


class PageMaker:
    """Makes pages.

    Args:
        inputs: SAE, store and language model.
        config: what is shown.
        paths: files of the parts' results, in order.
    """

    def __init__(self, inputs: FeatureInputs, config: FeaturesConfig, paths: Sequence[Path]) -> None:
        self._inputs, self._config = inputs, config
        self._paths = paths
        self._coactivation = Coactivation(*read_pairs(paths), d_sae=inputs.sae.cfg.d_sae)
        self._token_ids = _token_ids(inputs)

    def pages(self, first: int, last: int) -> list[FeaturePage]:
        """Returns the pages of the features `[first, last)`.

        Raises:
            TornData: the result of a part is missing or damaged.
        """
        config, W_dec = self._config, self._inputs.sae.W_dec.detach()
        found = read_slice(self._paths, first, last)
        top = self._shown(found.kept.picked(found.kept.top(config.top_contexts)))
        sampled = self._shown(_spread_sample(found.kept, config.sampled_contexts))
        nearest = nearest_decoders(W_dec, first, last, config.neighbours)
        correlated = self._coactivation.correlated(first, last, config.neighbours)
        logits = None
        if self._inputs.head is not None:
            logits = logit_tables(
                self._inputs.head,
                W_dec[first:last],
                config.tokens,
                self._inputs.vocabulary,
                with_histogram=not {"neuronpedia", "saedashboard"}.isdisjoint(config.formats),
            )
        alignment = largest_of_rows(W_dec[first:last], _ALIGNMENT)
        decoder_l1 = W_dec[first:last].abs().sum(1).tolist()
        return [
            FeaturePage(
                feature=feature,
                rows=found.rows,
                count=int(found.count[place]),
                mean=float(found.total[place] / max(found.count[place], 1)),
                bins=_bins(found, feature),
                top=tuple(top.get(feature, ())),
                sampled=tuple(sampled.get(feature, ())),
                **_logits_of(logits, place),
                nearest=_listed(place, *nearest),
                correlated=_listed(place, *correlated),
                alignment=_listed(place, *alignment),
                decoder_l1=decoder_l1[place],
            )
            for place, feature in enumerate(range(first, last))
        ]

    def _shown(self, firing: FiringContexts) -> dict[int, list[ShownContext]]:
        """Returns the windows around the peaks, by feature, in the order of `firing`."""
        shown: dict[int, list[ShownContext]] = {}
        for pair in range(len(firing)):
            tokens, position = self._token_ids[firing.context[pair]], int(firing.position[pair])
            start = max(position - self._config.tokens_before, 0)
            stop = min(position + self._config.tokens_after + 1, len(tokens))
            acts = np.zeros(len(tokens), np.float32)
            own = slice(firing.start[pair], firing.start[pair + 1])
            acts[firing.act_position[own]] = firing.act[own]
            shown.setdefault(int(firing.feature[pair]), []).append(
                ShownContext(
                    context_id=int(firing.context_id[pair]),
                    document_id=int(firing.document_id[pair]),
                    first=start,
                    position=position,
                    token_ids=tuple(tokens[start:stop].tolist()),
                    acts=tuple(acts[start:stop].tolist()),
                )
            )
        return shown


def spread(found: int, wanted: int) -> NDArray[np.int64]:
    """Returns which of `found` ranked things to show: all, or `wanted` of them in the middles of equal shares."""
    if found <= wanted:
        return np.arange(found)
    return ((2 * np.arange(wanted) + 1) * found) // (2 * wanted)


def _spread_sample(kept: FiringContexts, wanted: int) -> FiringContexts:
    """Returns of each feature's uniform sample those contexts that are spread over its range, the strongest first."""
    sample = kept.picked(kept.sample(OVERSAMPLED * wanted))
    ranked = sample.top(len(sample))
    feature = sample.feature[ranked]
    first = np.searchsorted(feature, np.unique(feature))
    counts = np.diff(np.append(first, len(feature)))
    chosen = [ranked[start + spread(count, wanted)] for start, count in zip(first, counts, strict=True)]
    return sample.picked(np.concatenate([np.empty(0, np.int64), *chosen]))


def _token_ids(inputs: FeatureInputs) -> NDArray[np.int32]:
    """Returns the token ids of all contexts of the pass, int32 `[contexts, length]`."""
    length = inputs.store.attributes.context_length
    tokens = [np.empty((0, length), np.int32)]
    unit, stored = -1, tokens[0]
    for part in inputs.parts:
        if part.unit != unit:
            unit, stored = part.unit, inputs.store.array(part.unit, "context_token_ids").read()
        tokens.append(stored[part.first : part.first + part.contexts])
    return np.concatenate(tokens)


def _bins(found: FeatureSlice, feature: int) -> tuple[tuple[int, int], ...]:
    own = found.bin_feature == feature
    bins, place = np.unique(found.bin[own], return_inverse=True)
    counts = np.zeros(len(bins), np.int64)
    np.add.at(counts, place, found.bin_count[own])
    return tuple(zip(bins.tolist(), counts.tolist(), strict=True))


def _listed(place: int, index: NDArray[np.int64], *values: NDArray[np.generic]) -> tuple[Any, ...]:
    """Returns the entries of one feature, as far as there are any."""
    rows = zip(index[place].tolist(), *(value[place].tolist() for value in values), strict=True)
    return tuple(row for row in rows if row[0] >= 0)


def _logits_of(logits: LogitTables | None, place: int) -> dict[str, tuple[Any, ...]]:
    if logits is None:
        return {"promoted": (), "suppressed": (), "logit_heights": (), "logit_values": ()}
    return {
        "promoted": _listed(place, logits.promoted, logits.promotion),
        "suppressed": _listed(place, logits.suppressed, logits.suppression),
        "logit_heights": tuple(logits.bar_heights[place].tolist()),
        "logit_values": tuple(logits.bar_values[place].tolist()),
    }
