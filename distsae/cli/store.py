"""`distsae store info|status|verify|measure|collect|merge|import`: look at stores, check, join and make them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from distsae.cli.actions import Action, act
from distsae.standard_streams import show

if TYPE_CHECKING:
    from distsae.store import Store

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = (
    "Look at a store (info, status), check it (verify), add norms (measure), clean up (collect), join several (merge), "
    "make one of your own activations (import)."
)

EXAMPLES = """
  distsae store info stores/gpt2
  distsae store info stores/gpt2 --json
  distsae store status stores/gpt2        (at any time: units, rows, rate, time left, producers at work)
  distsae store verify stores/gpt2        (exit code 1 if a file is damaged or missing; it is named)
  distsae store measure stores/gpt2       (adds the histograms of norms that a store from before them lacks)
  distsae store collect stores/gpt2
  distsae store merge stores/news stores/novels --out stores/both
  distsae store import activations.npy --out stores/own
  distsae store import shards/ --key resid --token_ids tokens.npy --hook blocks.11.resid_post --out stores/own
"""


@dataclass(frozen=True, kw_only=True)
class StoreInfoConfig:
    """Settings of `store info` and `store status`.

    Args:
        store: folder of the store.
        json: print one JSON object instead of text.
    """

    store: str
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class PathConfig:
    """Settings of `store verify`, `store measure` and `store collect`.

    Args:
        store: folder of the store.
    """

    store: str


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Settings of `store merge`.

    Args:
        stores: folders of two or more finished stores of the same model, hooks and layout, and of different text.
        out: folder of the new store; files are linked where the file system can do so, and copied otherwise.
        max_common_text: largest share of a store's contexts that may have text in common with another store.
    """

    stores: tuple[str, ...]
    out: str
    max_common_text: float = 0.01


def run(argv: list[str]) -> int:
    """Runs the action that `argv` begins with and returns the exit code."""
    from distsae.cli.store_import import StoreImportConfig, import_store

    actions: dict[str, Action[Any]] = {
        "info": Action(
            config_class=StoreInfoConfig,
            run=_info,
            help="Show what a store holds and how it was made.",
            positionals=("store",),
        ),
        "status": Action(
            config_class=StoreInfoConfig,
            run=_status,
            help="Show how far a store is, finished or not.",
            positionals=("store",),
        ),
        "verify": Action(
            config_class=PathConfig,
            run=_verify,
            help="Check every file of a store.",
            positionals=("store",),
        ),
        "measure": Action(
            config_class=PathConfig,
            run=_measure,
            help="Add the histograms of norms that units of an older store lack; reads their rows once.",
            positionals=("store",),
        ),
        "collect": Action(
            config_class=PathConfig,
            run=_collect,
            help="Remove attempts that no commit record names.",
            positionals=("store",),
        ),
        "merge": Action(
            config_class=MergeConfig,
            run=_merge,
            help="Make one store of several.",
            positionals=("stores",),
        ),
        "import": Action(
            config_class=StoreImportConfig,
            run=import_store,
            help="Make a store of activations from files: npy, safetensors, pt, Parquet, Arrow.",
            positionals=("activations",),
        ),
    }
    return act("store", "STORE", actions, argv, help=HELP, examples=EXAMPLES)


def _info(config: StoreInfoConfig) -> int:
    from distsae.cli.store_norms import norm_facts, norm_lines
    from distsae.store import Store

    store = Store.open(config.store)
    summary = _summary(store)
    norms = {hook: store.norms(hook) for hook in store.attributes.hooks}
    if config.json:
        show(json.dumps({**summary, "norms": {hook: norm_facts(known) for hook, known in norms.items()}}, indent=2))
        return 0
    for number, source in enumerate(summary.pop("sources")):
        show(f"merged from {number:<13} {source['path']}: {source['rows']:,} rows of {source['corpus']}")
    for name, value in summary.items():
        if isinstance(value, dict):
            for inner, shown in value.items():
                show(f"{name}.{inner:<{max(24 - len(name), 1)}} {shown}")
        else:
            text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
            show(f"{name:<25} {', '.join(text) if isinstance(text, list) else text}")
    for hook, known in norms.items():
        show(*norm_lines(hook, known, config.store))
    return 0


def _summary(store: Store) -> dict[str, Any]:
    from distsae.store.records import count_files

    attributes = store.attributes
    units = store.committed()
    files, folders = count_files(units)
    return {
        "rows": store.rows,
        "heldout_rows": store.heldout_rows,
        "units": store.unit_count,
        "hooks": list(attributes.hooks),
        "d_in": dict(attributes.d_in),
        "dtype": attributes.dtype,
        "model": attributes.model,
        "model_revision": attributes.model_revision,
        "model_digest": attributes.model_digest,
        **({} if attributes.base_model is None else {"base_model": attributes.base_model}),
        "tokenizer": attributes.tokenizer_digest,
        "corpus": attributes.corpus,
        "corpus_fingerprint": attributes.corpus_fingerprint,
        "context_length": attributes.context_length,
        "prepend_bos": attributes.prepend_bos,
        "excluded_positions": attributes.excluded_positions,
        **({"excluded_tokens": list(attributes.excluded_tokens)} if attributes.excluded_tokens else {}),
        "contexts": attributes.contexts,
        "heldout_contexts": attributes.heldout_contexts,
        "heldout_by": attributes.heldout_by,
        "chunk_rows": attributes.chunk_rows,
        **({} if attributes.keep_units is None else {"keep_units": attributes.keep_units}),
        "seed": attributes.seed,
        "bytes": sum(file.size for unit in units for file in unit.files.values()),
        "files": files,
        "inodes": files + folders,
        "mean_norm": {hook: store.statistics(hook).mean_norm for hook in attributes.hooks},
        "variance": {hook: store.statistics(hook).variance for hook in attributes.hooks},
        "library_versions": dict(attributes.library_versions),
        "fingerprint": store.fingerprint,
        "content_digest": store.content_digest,
        "sources": list(store.sources),
    }


def _status(config: StoreInfoConfig) -> int:
    from distsae.producer.status import store_status
    from distsae.store.location import location

    status = store_status(location(config.store))
    if config.json:
        show(json.dumps(asdict(status), indent=2))
        return 0
    rate, left = status.rows_per_second, status.seconds_left
    for name, shown in {
        "state": f"{status.state}{f', {status.producers} at work' if status.producers else ''}",
        "units": _of(status.units, status.units_total),
        **({} if status.tokens_kept is None else {"tokens kept": f"{status.tokens_kept:,} (the text is tokenised)"}),
        **({"units released": f"{status.units_released:,}"} if status.units_released else {}),
        **({"reader": status.reader} if status.reader else {}),
        "rows": _of(status.rows, status.rows_total),
        "rows per second": "unknown" if rate is None else f"{rate:,.0f}",
        "seconds left": "unknown" if left is None else f"{left:,.0f}",
        "bytes": f"{status.bytes:,}",
    }.items():
        show(f"{name:<25} {shown}")
    return 0


def _of(done: int, total: int | None) -> str:
    return f"{done:,}" if total is None else f"{done:,} of {total:,} ({done / max(total, 1):.0%})"


def _verify(config: PathConfig) -> int:
    from distsae.progress import Progress
    from distsae.store import Store, verify_store

    store = Store.open(config.store)
    sizes = [file.size for unit in store.committed() for file in unit.files.values()]
    with Progress(sum(sizes), "verify", "bytes") as progress:
        faults = verify_store(store, progress.advance)
    for fault in faults:
        show(fault)
    if faults:
        show(f"{store.path}: {len(faults)} faults in {len(sizes):,} files")
        return 1
    show(f"{store.path}: {len(sizes):,} files, {sum(sizes):,} bytes, {store.rows + store.heldout_rows:,} rows: whole")
    return 0


def _measure(config: PathConfig) -> int:
    from distsae.progress import Progress
    from distsae.store import Store, measure_store, outliers_in_words, unmeasured

    store = Store.open(config.store)
    missing = unmeasured(store)
    with Progress(sum(record.rows for record in missing), "measure", "rows") as progress:
        store = measure_store(store, progress.advance)
    rest = "; the others had histograms of norms" if len(missing) < store.unit_count else ""
    show(f"{store.path}: measured {len(missing)} of {store.unit_count} units{rest}")
    for hook in store.attributes.hooks:
        norms = store.norms(hook)
        if norms is not None and (line := outliers_in_words(hook, norms)) is not None:
            show(line)
    return 0


def _collect(config: PathConfig) -> int:
    from distsae.store import collect_orphans, location

    collected = collect_orphans(location(config.store))
    left = f"; {collected.in_progress} in progress left alone" if collected.in_progress else ""
    show(f"{config.store}: removed {collected.attempts} orphans, {collected.size:,} bytes{left}")
    return 0


def _merge(config: MergeConfig) -> int:
    from distsae.progress import Progress, say
    from distsae.store import Store, merge_stores

    rows = sum(store.rows + store.heldout_rows for store in map(Store.open, config.stores))
    if config.max_common_text < 1:
        say(f"comparing the texts of {len(config.stores)} stores")
    with Progress(rows, "merge", "rows") as progress:
        merged = merge_stores(config.stores, config.out, progress.advance, config.max_common_text)
    show(f"{merged.path}: {merged.rows:,} rows and {merged.heldout_rows:,} held-out ones in {len(merged.units)} units")
    return 0
