"""`distsae store import`: makes a store of activations that other programs have written to files."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from distsae.errors import WrongInput
from distsae.standard_streams import show
from distsae.store.own_store import OwnStoreSettings

__all__ = ["StoreImportConfig", "import_store"]


@dataclass(frozen=True, kw_only=True)
class StoreImportConfig(OwnStoreSettings):
    """Settings of `store import`.

    Args:
        activations: files that end in .npy, .safetensors, .pt, .pth, .parquet or .arrow, or folders of them, in order;
            each `[rows, d_in]` or `[contexts, length, d_in]`.
        out: folder or URL of the new store.
        key: name of the tensor or column of activations; by default the only one there is.
        token_ids: file of the token of each row, or the name of a column of the tables; none if it is not known.
        document_ids: file of the number of the document that each context, or row without a context, is from, or the
            name of a column; whole documents are held out then. None holds out the last contexts.
        hook: name of the place in the model that the activations are from; SAEs carry it.
        dtype: dtype to store activations in: auto, fp16, bf16 or fp32. `auto` is that of the activations, fp32 for
            fp64.
        heldout_share: share of the contexts, or of the rows without contexts, that is held out for evaluation.
        excluded_positions: positions at the start of each context that give no rows.
        unit_rows: token rows in a unit, which is held in memory and committed as a whole.
        chunk_rows: token rows in a chunk, the smallest piece of a store that is read.
        seed: seed of the order of rows, and of which documents are held out.
        model: name or folder of the model that the activations are from; `evaluate` then needs no `--model`.
        prepend_bos: whether each context starts with BOS.
    """

    activations: tuple[str, ...]
    out: str
    key: str | None = None
    token_ids: str | None = None
    document_ids: str | None = None


def import_store(config: StoreImportConfig) -> int:
    """Writes the store and returns the exit code."""
    from distsae.activation_files import open_activations, read_ids
    from distsae.progress import Progress
    from distsae.store import Store, location, outliers_in_words
    from distsae.store.row_source import as_source

    activations = open_activations(config.activations, config.key)
    ids = {
        name: None if path is None else read_ids(path, name, config.activations)
        for name, path in {"token_ids": config.token_ids, "document_ids": config.document_ids}.items()
    }
    settings = {name: value for name, value in asdict(config).items() if name in asdict(OwnStoreSettings())}
    with as_source(activations, location(config.out)) as source:
        if source.contexts < 2:
            raise WrongInput(f"`activations` must have at least 2 rows or contexts; got {source.contexts}; give more")
        rows = source.contexts * (source.length - config.excluded_positions)
        with Progress(max(rows, 0), "import", "rows") as progress:
            store = Store.write(config.out, source, on_rows=progress.advance, **ids, **settings)
    show(
        f"{store.path}: {store.rows:,} rows and {store.heldout_rows:,} held-out ones of width {source.d_in} at "
        f"{config.hook} in {store.unit_count} units, {store.attributes.dtype}"
    )
    norms = store.norms(config.hook)
    if norms is not None and (line := outliers_in_words(config.hook, norms)) is not None:
        show(line)
    return 0
