"""The fields of `dataset.json` and `merge.json`, and whether what a store declares goes together.

Whoever opens a store computes in proportion to what it declares. So what it declares is compared here with the records
that are there, and the records with the sizes of the files that they name, before anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from distsae.checked_files import Between, WrongField, typed
from distsae.errors import TornData
from distsae.store.attributes import StoreAttributes
from distsae.store.layout import DTYPES, StorePaths, chunk_count
from distsae.store.norm_histogram import NormHistogram
from distsae.store.records import UnitRecord
from distsae.store.unit_plan import planned_rows, unit_count

__all__ = ["MergeFacts", "SealedFacts", "check_record", "check_sealed", "sealed_facts"]

_Count = Annotated[int, Between(0)]

_UNQUESTIONED_BYTES = 256 << 20
"""Largest chunk whose size is believed: chunks are some megabytes, and reading one takes memory of its size."""

_MOST_COMPRESSED = 1000
"""Times that activations may be larger than their files, in another program's codecs."""

_UNQUESTIONED_CHUNKS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class HookStatistics:
    """Statistics of all train rows at one hook, as sealed; see `contents.Statistics`."""

    rows: _Count
    mean: list[float]
    mean_norm: float
    variance: float


@dataclass(frozen=True, kw_only=True)
class MergedSource:
    """What a merged store says of a store that it was made of, as far as it is read again."""

    path: str
    rows: _Count
    corpus: str
    corpus_fingerprint: str
    sources: list[MergedSource] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class SealedFacts:
    """The fields of `dataset.json` that are read."""

    fingerprint: str
    content_digest: str
    units: _Count
    rows: _Count
    heldout_rows: _Count
    statistics: dict[str, HookStatistics]
    unit_digests: list[str | None]
    norms: dict[str, NormHistogram] = field(default_factory=dict)
    sources: list[MergedSource] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class MergeFacts:
    """The field of `merge.json` that is read: the number of units of the merged store."""

    units: _Count


def sealed_facts(dataset: Mapping[str, Any], attributes: StoreAttributes) -> SealedFacts:
    """Returns the fields of `dataset.json`, after comparing them with each other and with the attributes.

    Raises:
        WrongField: a field is missing or not what it must be, or two do not go together.
    """
    facts = typed(SealedFacts, dataset)
    if len(facts.unit_digests) != facts.units:
        raise WrongField(f"`unit_digests` must be those of {facts.units} units; got {len(facts.unit_digests)}")
    for hook in attributes.hooks:
        if hook not in facts.statistics:
            raise WrongField(f"`statistics.{hook}` is missing")
        if (width := len(facts.statistics[hook].mean)) != attributes.d_in[hook]:
            raise WrongField(f"`statistics.{hook}.mean` must have {attributes.d_in[hook]} numbers; got {width}")
        if hook in facts.norms:
            facts.norms[hook].check(attributes.d_in[hook], facts.statistics[hook].rows, f"norms.{hook}")
    if attributes.keep_units is not None:
        rows = planned_rows(attributes)
        if facts.units != unit_count(attributes):
            raise WrongField(f"`units` must be the {unit_count(attributes)} of its contexts; got {facts.units}")
        if (facts.rows, facts.heldout_rows) != (rows["train"], rows["heldout"]):
            raise WrongField(f"`rows` must be the {rows['train']} of its contexts; got {facts.rows}")
    elif None in facts.unit_digests:
        raise WrongField("`unit_digests` must have the digest of every unit; got null")
    return facts


def check_record(paths: StorePaths, attributes: StoreAttributes, record: UnitRecord) -> None:
    """Compares the rows that a commit record declares with its contexts, its sums and the sizes of its files.

    Raises:
        TornData: they do not go together; the text names the record.
    """
    path = paths.commit(record.index)
    if record.rows != record.contexts * attributes.rows_per_context:
        raise TornData(f"{path} promises {record.rows} rows from {record.contexts} contexts")
    if record.excluded_rows > record.rows:
        raise TornData(f"{path} promises {record.excluded_rows} excluded rows of {record.rows}")
    try:
        for hook in attributes.hooks:
            if hook not in record.sums:
                raise WrongField(f"`sums.{hook}` is missing")
            sums, d_in = record.sums[hook], attributes.d_in[hook]
            if len(sums.x) != d_in:
                raise WrongField(f"`sums.{hook}.x` must have {d_in} numbers; got {len(sums.x)}")
            if sums.norms is not None:
                sums.norms.check(d_in, record.rows - record.excluded_rows, f"sums.{hook}.norms")
    except WrongField as error:
        raise TornData(f"{path} is not a record that distsae wrote: {error}") from None
    for hook in attributes.hooks:
        _compare_with_files(paths, attributes, record, hook)


def check_sealed(
    paths: StorePaths, attributes: StoreAttributes, facts: SealedFacts, records: Sequence[UnitRecord]
) -> None:
    """Compares what a store that keeps all units declares with its commit records.

    Raises:
        TornData: they do not go together; the text names the file.
    """
    for split, rows in (("train", facts.rows), ("heldout", facts.heldout_rows)):
        found = sum(record.rows for record in records if record.split == split)
        if found != rows:
            raise TornData(f"{paths.dataset} promises {rows} {split} rows; the commit records hold {found}")
    for contexts, of in ((attributes.contexts, records), (attributes.heldout_contexts, _heldout(records))):
        if (found := sum(record.contexts for record in of)) != contexts:
            raise TornData(f"{paths.attributes} promises {contexts} contexts; the commit records hold {found}")
    chunks = sum(chunk_count(record.rows, attributes.chunk_rows) for record in records)
    if chunks > max(_UNQUESTIONED_CHUNKS, 2 * sum(len(record.files) for record in records)):
        raise TornData(f"{paths.dataset} promises {chunks} chunks, far more than the commit records have files")


def _heldout(records: Sequence[UnitRecord]) -> list[UnitRecord]:
    return [record for record in records if record.split == "heldout"]


def _compare_with_files(paths: StorePaths, attributes: StoreAttributes, record: UnitRecord, hook: str) -> None:
    """Compares the rows of a unit with the sizes of its files at one hook; large ones are looked at on the disk."""
    row_bytes = attributes.d_in[hook] * DTYPES[attributes.dtype].numpy.itemsize
    sizes = {name: file.size for name, file in record.files.items() if name.startswith(f"act/{hook}/")}
    if min(record.rows, attributes.chunk_rows) * row_bytes > _UNQUESTIONED_BYTES or sum(sizes.values()) > 2**50:
        folder = paths.attempt(record.attempt)
        for name, size in sizes.items():
            try:
                found = (folder / name).stat().st_size
            except FileNotFoundError:
                continue  # whoever needs it names it
            if found != size:
                raise TornData(f"{folder / name} has {found} bytes; its unit's commit record promises {size}")
    if record.rows * row_bytes > _MOST_COMPRESSED * (size := sum(sizes.values())):
        raise TornData(f"{paths.commit(record.index)} promises {record.rows} rows; its {hook} files have {size} bytes")
