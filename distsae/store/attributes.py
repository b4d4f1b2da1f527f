"""The identity of a store: every setting in which a mismatch would spoil the data, and one fingerprint of them.

A producer with other settings, or a consumer that expects another model, is refused by comparing fingerprints; the
error shows the values that differ. Names and library versions are recorded but not hashed: a model or a corpus that was
moved is still the same one, as its digest shows.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal

from distsae.checked_files import Between, WrongField, is_plain, shown, typed

__all__ = ["FORMAT_VERSION", "RECORDED_ONLY", "StoreAttributes", "differences"]

FORMAT_VERSION = 1

RECORDED_ONLY = ("model", "model_revision", "base_model", "corpus", "library_versions")
"""Fields that are not part of the fingerprint."""


_LATER: dict[str, Any] = {
    "keep_units": None,
    "excluded_tokens": [],
    "code_digest": None,
    "base_model": None,
    "adapter_digest": None,
    "heldout_by": "contexts",
    "heldout_share": None,
    "context_order": "permuted",
}
"""Fields that the first stores did not have, with the value that stands for that."""


@dataclass(frozen=True, kw_only=True)
class StoreAttributes:
    """The identity of a store.

    Args:
        format_version: version of the layout on disk.
        model: name or folder of the language model (recorded only).
        model_revision: commit of the model's repository, or `"local"` (recorded only).
        model_digest: sha256 of weights and configuration.
        tokenizer_digest: sha256 of the tokenizer's definition.
        corpus: name or path of the corpus (recorded only).
        corpus_fingerprint: sha256 of the packed token ids and document ids, and thus of the text that was used.
        hooks: names of the hooks, in order.
        d_in: width of each hook's activations.
        dtype: dtype of the stored activations: `"fp16"`, `"bf16"` or `"fp32"`.
        context_length: tokens in a context, BOS included.
        prepend_bos: whether every context starts with BOS.
        excluded_positions: number of positions at the start of a context that give no row.
        excluded_tokens: ids of the tokens whose rows are zeros and left out, ascending.
        unit_rows: rows that a unit should have; the actual number is a multiple of `rows_per_context`.
        contexts: number of contexts, held-out ones included.
        heldout_contexts: number of held-out contexts.
        seed: seed of the permutations of contexts and rows.
        chunk_rows: rows in a chunk; the batch order depends on it.
        batch_contexts: contexts in a forward pass; the last bit of an activation can depend on it.
        model_dtype: dtype in which the language model computed.
        keep_units: most train units that a bounded store holds at a time; None for a store that keeps all units.
        heldout_by: `"documents"` if the held-out contexts hold documents of their own, `"end"` if they are the end of a
            corpus of few documents, `"contexts"` if they are drawn from all contexts.
        heldout_share: share of the text that was to be held out; None if contexts are drawn.
        context_order: `"permuted"` if contexts are spread over the units at random, `"given"` if each unit holds
            contexts that follow each other, which suits activations that are read from files.
        base_model: name or folder of the model that the adapter `model` was merged into (recorded only); None for none.
        adapter_digest: sha256 of the adapter that was merged into it; `model_digest` is that of both. None for none.
        code_digest: sha256 of the code that came with the model and was allowed to run; None if none was.
        library_versions: versions of the libraries that the first producer used (recorded only).
    """

    format_version: int = FORMAT_VERSION
    model: str
    model_revision: str
    model_digest: str
    tokenizer_digest: str
    corpus: str
    corpus_fingerprint: str
    hooks: Annotated[tuple[str, ...], Between(1)]
    d_in: dict[str, Annotated[int, Between(1)]]
    dtype: Literal["fp16", "bf16", "fp32"]
    context_length: Annotated[int, Between(1)]
    prepend_bos: bool
    excluded_positions: Annotated[int, Between(0)]
    unit_rows: Annotated[int, Between(1)]
    contexts: Annotated[int, Between(0)]
    heldout_contexts: Annotated[int, Between(0)]
    seed: int
    chunk_rows: Annotated[int, Between(1)] = 8192
    batch_contexts: Annotated[int, Between(1)] = 32
    model_dtype: Literal["fp16", "bf16", "fp32"] = "fp32"
    keep_units: Annotated[int, Between(2)] | None = None
    excluded_tokens: tuple[Annotated[int, Between(0)], ...] = ()
    heldout_by: Literal["contexts", "documents", "end"] = "contexts"
    heldout_share: float | None = None
    context_order: Literal["permuted", "given"] = "permuted"
    code_digest: str | None = None
    base_model: str | None = None
    adapter_digest: str | None = None
    library_versions: dict[str, str] = field(default_factory=dict)

    @property
    def rows_per_context(self) -> int:
        """Token rows that one context gives."""
        return self.context_length - self.excluded_positions

    def fingerprint(self) -> str:
        """Returns the sha256 of all fields but those in `RECORDED_ONLY`, in hexadecimal."""
        hashed = {name: value for name, value in self.to_json().items() if name not in RECORDED_ONLY}
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values.

        Fields that came later are included only if they are used, so that other stores keep the fingerprint that they
        had before these fields existed.
        """
        values = {**asdict(self), "hooks": list(self.hooks), "excluded_tokens": list(self.excluded_tokens)}
        return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> StoreAttributes:
        """Returns the attributes that `to_json` wrote; unknown fields are ignored.

        Raises:
            WrongField: a field is missing or not what it must be, or two do not go together.
        """
        found = typed(cls, values)
        for hook in found.hooks:
            if not is_plain(hook) or "/" in hook or hook not in found.d_in or found.hooks.count(hook) > 1:
                raise WrongField(f"`hooks` must be different plain names with a width in `d_in`; got {shown(hook)}")
        if found.excluded_positions >= found.context_length:
            raise WrongField(f"`excluded_positions` must be below `context_length`; got {found.excluded_positions}")
        if found.context_order == "given" and found.heldout_by == "contexts" and found.heldout_contexts:
            raise WrongField("`heldout_by` must be documents or end where `context_order` is given; got contexts")
        if found.heldout_contexts > found.contexts:
            raise WrongField(f"`heldout_contexts` must be at most `contexts`; got {found.heldout_contexts}")
        return found


def differences(first: StoreAttributes, second: StoreAttributes) -> dict[str, tuple[Any, Any]]:
    """Returns the hashed fields that differ, each with both values to show to the user.

    A digest is shown with the name of the model or corpus that it belongs to.
    """
    named = {
        "model_digest": "model",
        "tokenizer_digest": "model",
        "code_digest": "model",
        "adapter_digest": "model",
        "corpus_fingerprint": "corpus",
    }

    def shown(attributes: StoreAttributes, name: str) -> Any:  # noqa: ANN401 (any field's value)
        value = getattr(attributes, name)
        return f"{value[:12]} of {getattr(attributes, named[name])}" if name in named and value else value

    differing = {
        f.name: (shown(first, f.name), shown(second, f.name))
        for f in fields(StoreAttributes)
        if f.name not in RECORDED_ONLY and getattr(first, f.name) != getattr(second, f.name)
    }
    if "hooks" in differing:
        differing.pop("d_in", None)
    return differing
