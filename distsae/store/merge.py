"""Merges stores of the same model, hooks and layout, but of different text, into one.

Nothing is computed again. The files of every committed unit get a second name in the new store: a hard link, or a
checked copy where file systems differ. The units get new numbers, train units first, and new commit records with the
same sizes, checksums, digests and sums. So the sealed statistics are those of all rows, from the same float64 sums that
one producer would have added. An interrupted merge resumes when it is repeated, as producing does.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distsae.checked_files import open_regular
from distsae.errors import TornData, WrongInput
from distsae.file_system import require_operations
from distsae.store.attempt_files import check_file, refuse_links_to
from distsae.store.attributes import StoreAttributes, differences
from distsae.store.claims import Claims
from distsae.store.commit import begin_store, commit_unit, committed_units, seal_store
from distsae.store.delivery import delivered
from distsae.store.json_files import publish_json
from distsae.store.layout import StorePaths
from distsae.store.location import Location, location
from distsae.store.records import FileChecksum, UnitRecord
from distsae.store.shared_text import refuse_common_text
from distsae.store.store import Store

__all__ = ["MAY_DIFFER", "merge_stores", "merged_attributes"]

MAY_DIFFER = (
    "corpus_fingerprint",
    "contexts",
    "heldout_contexts",
    "heldout_by",
    "heldout_share",
    "unit_rows",
    "seed",
)
"""Attributes in which merged stores may differ: the text, its amount, and its order."""

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)


def merge_stores(
    paths: Sequence[str | Location],
    out: str | Location,
    on_unit: Callable[[int], None] = lambda rows: None,
    max_common_text: float = 0.01,
) -> Store:
    """Merges sealed stores into `out` and returns it; if `out` is finished already, nothing is done.

    Units are numbered in the order of `paths`, the train units of all stores before the held-out ones. The numbers of
    contexts and documents keep the meaning that they have in the store that a unit comes from.

    Args:
        paths: two or more stores.
        out: folder of the new store.
        on_unit: called with the number of rows of each unit, once the unit is part of the new store.
        max_common_text: largest share of a store's contexts that may have text in common with another store.

    Raises:
        WrongInput: a store is missing, unfinished or cannot be merged with the first one, or two stores hold the same
            text; every attribute that forbids merging is named with both values.
        TornData: a file is not what its commit record promises.
    """
    stores = [Store.open(path) for path in paths]
    root = location(out)
    for store in stores:
        if root.resolve() == store.path.resolve():
            raise WrongInput(f"`out` (={out}) must be a new store; got one of those to merge; choose another name")
    attributes = merged_attributes(stores)
    refuse_common_text(stores, max_common_text)
    new_paths = StorePaths(root)
    units = [(store, unit) for split in ("train", "heldout") for store in stores for unit in _units(store, split)]
    if isinstance(root, Path) and not new_paths.attributes.exists():
        require_operations(root, "out", publishing=True)
    begin_store(root, attributes)
    publish_json(new_paths.merge, {"units": len(units), "stores": [str(store.path) for store in stores]})
    done = committed_units(root, len(units))
    with Claims(new_paths.claims) as claims:
        for index, (store, unit) in enumerate(units):
            if index not in done:
                claims.take(new_paths.unit_name(index))
                commit_unit(root, _bring_over(store, unit, root, index, attributes))
                claims.release(new_paths.unit_name(index))
            on_unit(unit.rows)
    sources = [_source(store, [index for index, (owner, _) in enumerate(units) if owner is store]) for store in stores]
    seal_store(root, attributes, units=len(units), sources=sources)
    return Store.open(root)


def merged_attributes(stores: Sequence[Store]) -> StoreAttributes:
    """Returns the attributes of the merged store of `stores`, in this order.

    Raises:
        WrongInput: the stores cannot be merged.
    """
    if len(stores) < 2:
        raise WrongInput(f"`stores` (={', '.join(str(s.path) for s in stores)}) must be two or more; name another")
    first = stores[0]
    texts = [_texts(store) for store in stores]
    for number, store in enumerate(stores):
        if store.attributes.keep_units is not None:
            raise WrongInput(
                f"`stores` (={store.path}) must keep all units; got a bounded store (keep_units "
                f"{store.attributes.keep_units}); produce one without --keep_units"
            )
        differing = differences(first.attributes, store.attributes)
        forbidden = {name: both for name, both in differing.items() if name not in MAY_DIFFER}
        if forbidden:
            shown = ", ".join(
                f"{name} {value} here and {expected} in {first.path}" for name, (expected, value) in forbidden.items()
            )
            raise WrongInput(
                f"`stores` (={store.path}) must go with {first.path}; got {shown}; produce it with equal settings"
            )
        for earlier in range(number):
            if texts[earlier] & texts[number]:
                raise WrongInput(
                    f"`stores` (={store.path}) must hold other text than {stores[earlier].path}; got the same; name "
                    "each text once"
                )
    fingerprints = "".join(store.fingerprint for store in stores)
    merged = [store.attributes for store in stores]
    return replace(
        first.attributes,
        corpus=" + ".join(dict.fromkeys(attributes.corpus for attributes in merged)),
        corpus_fingerprint=hashlib.sha256(f"merge {fingerprints}".encode()).hexdigest(),
        contexts=sum(attributes.contexts for attributes in merged),
        heldout_contexts=sum(attributes.heldout_contexts for attributes in merged),
        heldout_by=first.attributes.heldout_by if _alike(merged, "heldout_by") else "contexts",
        heldout_share=first.attributes.heldout_share if _alike(merged, "heldout_share") else None,
        unit_rows=max(attributes.unit_rows for attributes in merged),
    )


def _alike(merged: Sequence[StoreAttributes], name: str) -> bool:
    return len({getattr(attributes, name) for attributes in merged}) == 1


def _units(store: Store, split: str) -> list[UnitRecord]:
    return [record for record in store.units if record.split == split]


def _texts(store: Store) -> set[str]:
    """Returns what two stores of the same text have in common: digests of units, fingerprints of corpora.

    Of a store that is itself merged, the corpora of its sources are included.
    """
    return {store.attributes.corpus_fingerprint, *(unit.digest for unit in store.units), *_corpora(store.sources)}


def _corpora(sources: Sequence[dict[str, Any]]) -> set[str]:
    return {source["corpus_fingerprint"] for source in sources} | {
        text for source in sources for text in _corpora(source["sources"])
    }


def _source(store: Store, units: list[int]) -> dict[str, Any]:
    """Returns how the merged store describes one of its sources; `units` are the new numbers of the source's units."""
    kept = ("corpus", "corpus_fingerprint", "contexts", "heldout_contexts", "seed", "model", "library_versions")
    described = store.attributes.to_json()
    return {
        "path": str(store.path.resolve()),
        "fingerprint": store.fingerprint,
        "content_digest": store.content_digest,
        "rows": store.rows,
        "heldout_rows": store.heldout_rows,
        "units": units,
        **{name: described[name] for name in kept},
        "sources": list(store.sources),
    }


def _bring_over(store: Store, unit: UnitRecord, root: Location, index: int, attributes: StoreAttributes) -> UnitRecord:
    """Links or copies the files of a unit into the new store, forces them to the disk, and returns their commit record.

    Args:
        store: store that the unit comes from.
        unit: commit record of the unit there.
        root: folder of the new store.
        index: number of the unit in the new store.
        attributes: attributes of the new store.
    """
    paths = StorePaths(root)
    attempt = f"{paths.unit_name(index)}/{uuid.uuid4().hex}"
    source, target = StorePaths(store.path).attempt(unit.attempt), paths.attempt(attempt)
    with delivered(target, root) as local:
        for name, promised in unit.files.items():
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                refuse_links_to(source, name)
                linked = _link_or_copy(source / name, local / name, promised)
            except FileNotFoundError:
                raise TornData(f"{source / name} is missing; its unit's commit record promises it") from None
            size = (local / name).stat().st_size
            if size != promised.size:
                raise TornData(
                    f"{source / name} is damaged: {size} bytes where its commit record promises {promised.size}"
                )
            if not linked:
                check_file(local / name, promised, store.ends_with_crc(unit.index, name))
    return replace(unit, index=index, attempt=attempt, fingerprint=attributes.fingerprint())


def _link_or_copy(source: Location, target: Path, promised: FileChecksum) -> bool:
    """Links a regular file, or copies it if it cannot be linked; returns whether it was linked."""
    if not isinstance(source, Path):
        source.download(target, promised.size)
        return False
    os.close(open_regular(source, source.parent))
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
        return False
    return True
