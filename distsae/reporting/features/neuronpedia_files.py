"""Feature pages in the layout that Neuronpedia imports: records of model, source and release, and gzipped JSON lines.

```
neuronpedia/MODEL/SOURCE/
  release.jsonl model.jsonl sourceset.jsonl source.jsonl
  features/batch-0.jsonl.gz  activations/batch-0.jsonl.gz  ...
```

The fields are those of Neuronpedia's bulk import, as of May 2026. Who uploads gives `creatorId`, names and links: these
are empty here. The same pages give the same bytes, so the files have no date of their making but a fixed one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from distsae.durable import replace
from distsae.reporting.features.feature_page import FeaturePage
from distsae.reporting.features.page_facts import PageFacts
from distsae.reporting.features.saedashboard_files import dashboard_feature
from distsae.text import TokenText

__all__ = ["NeuronpediaFiles"]

_DATE = "2000-01-01T00:00:00"

_OF_FEATURE = (
    "neuron_alignment_indices",
    "neuron_alignment_values",
    "neuron_alignment_l1",
    "correlated_neurons_indices",
    "correlated_neurons_pearson",
    "correlated_neurons_l1",
    "correlated_features_indices",
    "correlated_features_pearson",
    "correlated_features_l1",
    "neg_str",
    "neg_values",
    "pos_str",
    "pos_values",
    "frac_nonzero",
    "freq_hist_data_bar_heights",
    "freq_hist_data_bar_values",
    "logits_hist_data_bar_heights",
    "logits_hist_data_bar_values",
    "decoder_weights_dist",
)
"""Fields that a feature has in both formats."""


_UNSET: dict[str, dict[str, Any]] = {
    "feature": {"vectorLabel": None, "vectorDefaultSteerStrength": 10},
    "activation": dict.fromkeys(
        ("dataIndex", "dataSource", "dfaTargetIndex", "dfaMaxValue", "logitContributions", "zIndices", "zValues")
    ),
    "release": {"isNewUi": False, "featured": False, "defaultUmapSourceIds": []}
    | dict.fromkeys(("creatorEmail", "defaultSourceSetName", "defaultSourceId")),
    "model": {"layers": 0, "neuronsPerLayer": 0, "owner": "", "inferenceEnabled": False}
    | dict.fromkeys(("defaultSourceSetName", "defaultSourceId", "tlensId", "website", "dimension")),
    "sourceset": {"type": "", "urls": [], "defaultRange": 1, "defaultShowBreaks": True}
    | dict.fromkeys(("showCorrelated", "showDfa", "showHeadAttribution", "showUmap"), False)
    | dict.fromkeys(("creatorEmail", "defaultOfModelId")),
    "source": {"inferenceHosts": []}
    | dict.fromkeys(("hasUmap", "hasUmapClusters", "hasUmapLogSparsity", "inferenceEnabled"), False)
    | dict.fromkeys(("saelensSaeId", "saelensRelease", "saelensConfig", "notes", "defaultOfModelId")),
}
"""Fields that say nothing here, with the values that stand for that, so that every record has all of its fields."""


class NeuronpediaFiles:
    """Writes `neuronpedia/`.

    Args:
        out: folder of the pages.
        text: text of tokens.
        facts: what all features have in common.
    """

    def __init__(self, out: Path, text: TokenText, facts: PageFacts) -> None:
        self._text, self._facts = text, facts
        self._model, self._set = _plain(facts.model.rsplit("/", 1)[-1]), _plain(facts.name)
        self._source = self._set if facts.layer is None else f"{facts.layer}-{self._set}"
        self._folder = out / "neuronpedia" / self._model / self._source

    def write(self, shard: int, pages: Sequence[FeaturePage]) -> None:
        """Writes the features and the activations of a shard."""
        dashboards = [dashboard_feature(page, self._text, self._facts) for page in pages]
        features = (self._feature(page, one) for page, one in zip(pages, dashboards, strict=True))
        activations = (
            self._activation(one["feature_index"], number, activation)
            for one in dashboards
            for number, activation in enumerate(one["activations"])
        )
        for name, rows in (("features", features), ("activations", activations)):
            folder = self._folder / name
            folder.mkdir(parents=True, exist_ok=True)
            content = gzip.compress(_lines(rows), compresslevel=5, mtime=0)
            replace(folder / f"batch-{shard}.jsonl.gz", content)

    def finish(self, entries: Sequence[dict[str, Any]]) -> None:
        """Writes the records of release, model, set of sources and source."""
        facts = self._facts
        owner = {"creatorId": "", "createdAt": _DATE}
        title = f"{facts.allocation} SAE of {facts.model} at {facts.hook}, {facts.d_sae} features"
        records: dict[str, dict[str, Any]] = {
            "release": {"name": self._set, "description": title, "descriptionShort": title, "urls": []}
            | {"creatorName": "", "creatorNameShort": None, "visibility": "PUBLIC", **owner},
            "model": {"id": self._model, "displayName": facts.model, "displayNameShort": self._model}
            | {"instruct": False, "visibility": "PUBLIC", "updatedAt": _DATE, **owner},
            "sourceset": {"modelId": self._model, "name": self._set, "description": title, "creatorName": ""}
            | {"releaseName": self._set, "visibility": "PUBLIC", "hasDashboards": True, **owner},
            "source": {"id": self._source, "modelId": self._model, "setName": self._set, "visibility": "PUBLIC"}
            | {"dataset": facts.corpus, "num_prompts": facts.contexts, "num_tokens_in_prompt": facts.context_length}
            | {"hasDashboards": True, "hfRepoId": None, "hfFolderId": None, **owner},
        }
        for name, record in records.items():
            replace(self._folder / f"{name}.jsonl", _lines([_UNSET[name] | record]))

    def _feature(self, page: FeaturePage, one: dict[str, Any]) -> dict[str, Any]:
        return _UNSET["feature"] | {
            "modelId": self._model,
            "layer": self._source,
            "index": str(page.feature),
            "creatorId": "",
            "createdAt": _DATE,
            "maxActApprox": round(page.largest, 3),
            "hasVector": False,
            "vector": [],
            "hookName": self._facts.hook,
            "topkCosSimIndices": [feature for feature, _ in page.nearest],
            "topkCosSimValues": [round(cosine, 3) for _, cosine in page.nearest],
            "sourceSetName": self._set,
            **{name: one[name] for name in _OF_FEATURE},
        }

    def _activation(self, feature: int, number: int, activation: dict[str, Any]) -> dict[str, Any]:
        values = activation["values"]
        name = f"{self._model} {self._source} {feature} {number}"
        return _UNSET["activation"] | {
            "id": f"c{hashlib.sha256(name.encode()).hexdigest()[:24]}",
            "tokens": activation["tokens"],
            "modelId": self._model,
            "layer": self._source,
            "index": str(feature),
            "maxValue": max(values),
            "maxValueTokenIndex": values.index(max(values)),
            "minValue": min(values),
            "values": values,
            "dfaValues": [],
            "lossValues": [],
            "creatorId": "",
            "createdAt": _DATE,
            "binMin": activation["bin_min"],
            "binMax": activation["bin_max"],
            "binContains": activation["bin_contains"],
            "qualifyingTokenIndex": activation["qualifying_token_index"],
        }


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()


def _plain(name: str) -> str:
    """Returns a name as a part of a path."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "unnamed"
