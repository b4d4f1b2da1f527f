"""Feature pages as Parquet files, one row a feature, for notebooks and queries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distsae.durable import replacing
from distsae.reporting.features.activation_histogram import EDGES
from distsae.reporting.features.feature_page import FeaturePage, ShownContext
from distsae.reporting.features.page_facts import PageFacts
from distsae.text import TokenText

__all__ = ["SCHEMA", "ParquetFiles"]

_CONTEXT = pa.struct(
    [
        ("context_id", pa.int64()),
        ("document_id", pa.int64()),
        ("first_position", pa.int32()),
        ("position", pa.int32()),
        ("activation", pa.float32()),
        ("token_ids", pa.list_(pa.int32())),
        ("tokens", pa.list_(pa.string())),
        ("activations", pa.list_(pa.float32())),
    ]
)
_TOKEN = pa.struct([("token_id", pa.int32()), ("token", pa.string()), ("effect", pa.float32())])

SCHEMA = pa.schema(
    [
        ("feature", pa.int64()),
        ("count", pa.int64()),
        ("density", pa.float64()),
        ("mean_activation", pa.float64()),
        ("max_activation", pa.float32()),
        ("histogram", pa.list_(pa.struct([("low", pa.float32()), ("high", pa.float32()), ("count", pa.int64())]))),
        ("top_contexts", pa.list_(_CONTEXT)),
        ("sampled_contexts", pa.list_(_CONTEXT)),
        ("promoted", pa.list_(_TOKEN)),
        ("suppressed", pa.list_(_TOKEN)),
        ("nearest", pa.list_(pa.struct([("feature", pa.int64()), ("cosine", pa.float32())]))),
        (
            "correlated",
            pa.list_(pa.struct([("feature", pa.int64()), ("correlation", pa.float64()), ("rows", pa.int64())])),
        ),
    ]
)
"""The columns; `docs/features.md` says what they mean."""


class ParquetFiles:
    """Writes `parquet/features-000000.parquet` and so on.

    Args:
        out: folder of the pages.
        text: text of tokens.
        facts: facts for the files' metadata, under the key `distsae`.
    """

    def __init__(self, out: Path, text: TokenText, facts: PageFacts) -> None:
        self._folder, self._text = out / "parquet", text
        self._schema = SCHEMA.with_metadata({"distsae": json.dumps(facts.to_json())})

    def write(self, shard: int, pages: Sequence[FeaturePage]) -> None:
        """Writes the file of a shard."""
        self._folder.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist([self._row(page) for page in pages], schema=self._schema)
        path = self._folder / f"features-{shard:06d}.parquet"
        with replacing(path, path.with_name(f".{path.name}.tmp")) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def finish(self, entries: Sequence[dict[str, Any]]) -> None:
        """Does nothing: files stand alone."""

    def _row(self, page: FeaturePage) -> dict[str, Any]:
        edges = [0.0, *EDGES.tolist(), float("inf")]
        return {
            "feature": page.feature,
            "count": page.count,
            "density": page.density,
            "mean_activation": page.mean,
            "max_activation": page.largest,
            "histogram": [{"low": edges[b], "high": edges[b + 1], "count": count} for b, count in page.bins],
            "top_contexts": [self._context(context) for context in page.top],
            "sampled_contexts": [self._context(context) for context in page.sampled],
            "promoted": [self._token(*entry) for entry in page.promoted],
            "suppressed": [self._token(*entry) for entry in page.suppressed],
            "nearest": [{"feature": feature, "cosine": cosine} for feature, cosine in page.nearest],
            "correlated": [{"feature": f, "correlation": value, "rows": rows} for f, value, rows in page.correlated],
        }

    def _context(self, context: ShownContext) -> dict[str, Any]:
        return {
            "context_id": context.context_id,
            "document_id": context.document_id,
            "first_position": context.first,
            "position": context.position,
            "activation": context.peak,
            "token_ids": context.token_ids,
            "tokens": self._text.of(context.token_ids),
            "activations": context.acts,
        }

    def _token(self, token_id: int, effect: float) -> dict[str, Any]:
        return {"token_id": token_id, "token": self._text[token_id], "effect": effect}
