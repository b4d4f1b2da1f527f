"""Feature pages as SAEDashboard writes them for Neuronpedia: `batch-0.json` and so on, and `skipped_indexes.json`.

The fields are those of SAEDashboard's `NeuronpediaDashboardBatch`, as of its version of May 2026. Two are filled in our
way: the bars of the activation histogram are of equal ratios, not of equal widths; and `correlated_features_pearson` is
that of firing or not. Fields that need the neurons of an MLP are left empty. Numbers have three decimals, as there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from distsae.durable import replace
from distsae.reporting.features.activation_histogram import bin_centre
from distsae.reporting.features.feature_page import FeaturePage, ShownContext
from distsae.reporting.features.page_facts import PageFacts
from distsae.text import TokenText

__all__ = ["SAEDashboardFiles", "dashboard_feature"]

_TOP = -1
"""Lower end and share of the group of top contexts, by which readers of the format tell it from the others."""


class SAEDashboardFiles:
    """Writes `saedashboard/batch-0.json` and so on.

    Args:
        out: folder of the pages.
        text: text of tokens.
        facts: facts that are written with every batch.
    """

    def __init__(self, out: Path, text: TokenText, facts: PageFacts) -> None:
        self._folder = out / "saedashboard"
        self._text, self._facts = text, facts

    def write(self, shard: int, pages: Sequence[FeaturePage]) -> None:
        """Writes the batch of a shard: of the features that fire."""
        self._folder.mkdir(parents=True, exist_ok=True)
        features = [dashboard_feature(page, self._text, self._facts) for page in pages if page.count]
        batch = {**self._names(), "sae_id_suffix": None, "features": features}
        replace(self._folder / f"batch-{shard}.json", json.dumps(batch, ensure_ascii=False, allow_nan=False).encode())

    def finish(self, entries: Sequence[dict[str, Any]]) -> None:
        """Writes which features are in no batch, since they fire on no row."""
        dead = [feature for feature, entry in enumerate(entries) if not entry["count"]]
        names = {**self._names(), "layer": str(self._facts.layer), "log_sparsity": None, "skipped_indexes": dead}
        replace(self._folder / "skipped_indexes.json", json.dumps(names).encode())

    def _names(self) -> dict[str, Any]:
        return {"model_id": self._facts.model, "layer": self._facts.layer, "sae_set": self._facts.name}


def dashboard_feature(page: FeaturePage, text: TokenText, facts: PageFacts) -> dict[str, Any]:
    """Returns a feature as `NeuronpediaDashboardFeature` has it.

    Args:
        page: the feature.
        text: text of tokens.
        facts: what all features have in common.
    """
    return {
        "feature_index": page.feature,
        "neuron_alignment_indices": [dimension for dimension, _ in page.alignment],
        "neuron_alignment_values": [round(value, 3) for _, value in page.alignment],
        "neuron_alignment_l1": [round(abs(value) / max(page.decoder_l1, 1e-30), 3) for _, value in page.alignment],
        "correlated_neurons_indices": [],
        "correlated_neurons_l1": [],
        "correlated_neurons_pearson": [],
        "correlated_features_indices": [feature for feature, _, _ in page.correlated],
        "correlated_features_l1": [],
        "correlated_features_pearson": [round(value, 3) for _, value, _ in page.correlated],
        "neg_str": text.of(token for token, _ in page.suppressed),
        "neg_values": [round(effect, 3) for _, effect in page.suppressed],
        "pos_str": text.of(token for token, _ in page.promoted),
        "pos_values": [round(effect, 3) for _, effect in page.promoted],
        "frac_nonzero": page.density,
        "freq_hist_data_bar_values": [round(bin_centre(number), 3) for number, _ in page.bins],
        "freq_hist_data_bar_heights": [count for _, count in page.bins],
        "logits_hist_data_bar_heights": list(page.logit_heights),
        "logits_hist_data_bar_values": [round(value, 3) for value in page.logit_values],
        "n_prompts_total": facts.contexts,
        "n_tokens_in_prompt": facts.context_length,
        "dataset": facts.corpus,
        "decoder_weights_dist": [],
        "activations": [
            *(_activation(context, text, _TOP, page.largest, _TOP) for context in page.top),
            *(_activation(context, text, *group) for context, group in _groups(page)),
        ],
        "vector": [],
    }


def _groups(page: FeaturePage) -> list[tuple[ShownContext, tuple[float, float, float]]]:
    """Returns each sampled context with its group: lower and upper end of the activations, and its share of contexts.

    A sampled context stands for an equal share of the contexts in which the feature fires: from halfway to the one
    below it, to halfway to the one above it.
    """
    peaks = [context.peak for context in page.sampled]
    ends = [page.largest, *((high + low) / 2 for high, low in pairwise(peaks)), 0.0]
    return [(context, (ends[place + 1], ends[place], 1 / len(peaks))) for place, context in enumerate(page.sampled)]


def _activation(context: ShownContext, text: TokenText, low: float, high: float, share: float) -> dict[str, Any]:
    return {
        "bin_min": round(low, 3),
        "bin_max": round(high, 3),
        "bin_contains": share,
        "tokens": text.of(context.token_ids),
        "values": [round(act, 3) for act in context.acts],
        "qualifying_token_index": context.position - context.first,
    }
