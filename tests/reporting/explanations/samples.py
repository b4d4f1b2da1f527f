"""Feature pages whose feature f fires on the word `wordf` and nowhere else."""

from __future__ import annotations

from pathlib import Path

from distsae.reporting.explanations import ExplainConfig
from distsae.reporting.explanations.feature_contexts import FeatureContexts, TokenWindow
from distsae.reporting.features.feature_page import FeaturePage, ShownContext
from distsae.reporting.features.parquet_files import ParquetFiles
from distsae.store.json_files import publish_json
from tests.reporting.features.samples import FACTS, Words, page

FILLER = 1000
CONTEXTS = 18
SHARD = 8
WORDS = Words({f: f" word{f}" for f in range(200)} | {FILLER + n: f" filler{n}" for n in range(50)})


def shown_context(feature: int, number: int) -> ShownContext:
    """A context of nine tokens, in which the feature's word stands once, or twice in every third one."""
    tokens = [FILLER + (feature * 7 + number * 11 + place * 5) % 50 for place in range(9)]
    strongest = number % 9
    tokens[strongest] = feature
    if number % 3 == 0:
        tokens[(strongest + 4) % 9] = feature
    acts = tuple(float(token == feature) * (20 - number) for token in tokens)
    acts = tuple(act * (1 if place == strongest else 0.5) for place, act in enumerate(acts))
    return ShownContext(
        context_id=feature * 100 + number, document_id=feature, first=3, position=3 + strongest,
        token_ids=tuple(tokens), acts=acts,
    )  # fmt: skip


def feature_page(feature: int, contexts: int = CONTEXTS, **changes: object) -> FeaturePage:
    made = [shown_context(feature, number) for number in range(contexts)]
    values = {"rows": 100_000, "top": tuple(made[:12]), "sampled": tuple(made[9:17]), "nearest": (), "correlated": ()}
    return page(feature, count=contexts, **(values | changes))


def write_pages(folder: Path, pages: list[FeaturePage], **settings: object) -> Path:
    """Writes the Parquet files and the manifest of finished pages."""
    files = ParquetFiles(folder, WORDS, FACTS)
    for shard, first in enumerate(range(0, len(pages), SHARD)):
        files.write(shard, pages[first : first + SHARD])
    publish_json(folder / "features.json", {"settings": {"sae": "d1", "with_tokenizer": True} | settings})
    return folder


def own_pages(folder: Path, features: int = 12) -> Path:
    return write_pages(folder, [feature_page(feature) for feature in range(features)])


def config(run: Path | str = "run", **changes: object) -> ExplainConfig:
    values = {"run": str(run), "endpoint": "http://127.0.0.1:9/v1", "model": "a-model"}
    return ExplainConfig(**(values | changes))


def window(context_id: int, *acts: float) -> TokenWindow:
    return TokenWindow(context_id, tuple(f" t{place}" for place in range(len(acts))), acts)


def contexts_of(feature: int, top: list[TokenWindow], sampled: list[TokenWindow], **changes: object) -> FeatureContexts:
    values = {"density": 0.001, "related": frozenset()} | changes
    return FeatureContexts(feature=feature, top=tuple(top), sampled=tuple(sampled), **values)
