"""What a store is a store of: everything that a mismatch would ruin, and one fingerprint of it.

A producer that comes back with other settings, or a consumer that expects another model, is refused by comparing
fingerprints and shown the first values that differ. Two things are recorded but not hashed: names (a model or a
corpus that was moved is still the same one; its digest says so) and library versions.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["FORMAT_VERSION", "RECORDED_ONLY", "StoreAttributes", "differences"]

FORMAT_VERSION = 1

RECORDED_ONLY = ("model", "model_revision", "corpus", "library_versions")
"""Fields that are kept but not part of the fingerprint."""


@dataclass(frozen=True, kw_only=True)
class StoreAttributes:
    """The identity of a store.

    Args:
        format_version: of the layout on disk.
        model: name or folder of the language model (recorded only).
        model_revision: commit of its repository, or `"local"` (recorded only).
        model_digest: sha256 of weights and configuration.
        tokenizer_digest: sha256 of the tokenizer's definition.
        corpus: name or path of the corpus (recorded only).
        corpus_fingerprint: sha256 of the packed token ids and document ids, so of the text that was used.
        hooks: names of the hooks, in order.
        d_in: width of each hook.
        dtype: of the stored activations, `"fp16"`, `"bf16"` or `"fp32"`.
        context_length: tokens in a context, BOS included.
        prepend_bos: whether every context starts with BOS.
        excluded_positions: first positions of a context that give no row.
        unit_rows: rows that a unit was meant to have; the real number is a multiple of the rows of a context.
        contexts: number of contexts, held-out ones included.
        heldout_contexts: how many of them are held out.
        seed: of the permutations of contexts and rows.
        chunk_rows: rows in a chunk; the batch order depends on it.
        batch_contexts: contexts in a forward pass; the last bit of an activation can depend on it.
        model_dtype: that the model computed in.
        keep_units: of a bounded store: most train units that it holds at a time; None for one that keeps all.
        library_versions: of the first producer (recorded only).
    """

    format_version: int = FORMAT_VERSION
    model: str
    model_revision: str
    model_digest: str
    tokenizer_digest: str
    corpus: str
    corpus_fingerprint: str
    hooks: tuple[str, ...]
    d_in: dict[str, int]
    dtype: str
    context_length: int
    prepend_bos: bool
    excluded_positions: int
    unit_rows: int
    contexts: int
    heldout_contexts: int
    seed: int
    chunk_rows: int = 8192
    batch_contexts: int = 32
    model_dtype: str = "fp32"
    keep_units: int | None = None
    library_versions: dict[str, str] = field(default_factory=dict)

    @property
    def rows_per_context(self) -> int:
        """Token rows that one context gives."""
        return self.context_length - self.excluded_positions

    def fingerprint(self) -> str:
        """Returns the sha256 of all fields that matter, hexadecimal."""
        hashed = {name: value for name, value in self.to_json().items() if name not in RECORDED_ONLY}
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Returns a dict that JSON can hold; `keep_units` is in it where it means something."""
        values = {**asdict(self), "hooks": list(self.hooks)}
        return {name: value for name, value in values.items() if name != "keep_units" or value is not None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> StoreAttributes:
        """Returns the attributes that `to_json` gave; unknown fields are ignored."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        return cls(**{**known, "hooks": tuple(values["hooks"])})


def differences(ours: StoreAttributes, theirs: StoreAttributes) -> dict[str, tuple[Any, Any]]:
    """Returns the hashed fields that differ, each with both values; digests come with the names they belong to."""
    named = {"model_digest": "model", "tokenizer_digest": "model", "corpus_fingerprint": "corpus"}

    def shown(attributes: StoreAttributes, name: str) -> Any:  # noqa: ANN401 (any field's value)
        value = getattr(attributes, name)
        return f"{value[:12]} of {getattr(attributes, named[name])}" if name in named else value

    differing = {
        f.name: (shown(ours, f.name), shown(theirs, f.name))
        for f in fields(StoreAttributes)
        if f.name not in RECORDED_ONLY and getattr(ours, f.name) != getattr(theirs, f.name)
    }
    if "hooks" in differing:
        differing.pop("d_in", None)
    return differing
