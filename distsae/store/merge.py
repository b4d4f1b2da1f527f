"""One store of several: the same model, hooks and layout, other text.

Nothing is read or computed again. The files of every committed unit get a second name in the new store (a hard link; a
checked copy where file systems differ), the units get new numbers, train units first, and new commit records, which
carry over sizes, checksums, digests and sums. The sealed statistics are therefore those of all rows, from the same
float64 sums that one producer would have added. It goes on where it was interrupted, as producing does.
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

from distsae.errors import TornData, WrongInput
from distsae.store.attempt_files import check_file
from distsae.store.attributes import StoreAttributes, differences
from distsae.store.claims import Claims
from distsae.store.commit import begin_store, commit_unit, committed_units, seal_store
from distsae.store.json_files import delivered, publish_json
from distsae.store.layout import StorePaths
from distsae.store.location import Location, location
from distsae.store.records import UnitRecord
from distsae.store.store import Store

__all__ = ["MAY_DIFFER", "merge_stores", "merged_attributes"]

MAY_DIFFER = ("corpus_fingerprint", "contexts", "heldout_contexts", "unit_rows", "seed")
"""Attributes that stores may differ in and still be merged: the text, how much of it, and its order."""

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)


def merge_stores(
    paths: Sequence[str | Location], out: str | Location, on_unit: Callable[[int], None] = lambda rows: None
) -> Store:
    """Makes `out` a store of all rows of several sealed stores; if it is one already, returns it.

    Units are numbered in the order of `paths`, the train units of all of them before the held-out ones. Numbers of
    contexts and documents keep the meaning that they have in the store that a unit comes from.

    Args:
        paths: of two stores or more.
        out: folder of the new store.
        on_unit: called with the rows of each unit, once it is there.

    Raises:
        WrongInput: a store is missing, unfinished or does not go with the first, or two hold the same text; every
            attribute that forbids it is named with both values.
        TornData: a file is not what its commit record promises.
    """
    stores = [Store.open(path) for path in paths]
    root = location(out)
    for store in stores:
        if root.resolve() == store.path.resolve():
            raise WrongInput(f"`out` (={out}) must be a new store; got one of those to merge; choose another name")
    attributes = merged_attributes(stores)
    places = StorePaths(root)
    units = [(store, unit) for split in ("train", "heldout") for store in stores for unit in _units(store, split)]
    begin_store(root, attributes)
    publish_json(places.merge, {"units": len(units), "stores": [str(store.path) for store in stores]})
    done = committed_units(root, len(units))
    with Claims(places.claims) as claims:
        for index, (store, unit) in enumerate(units):
            if index not in done:
                claims.take(places.unit_name(index))
                commit_unit(root, _brought(store, unit, root, index, attributes))
                claims.release(places.unit_name(index))
            on_unit(unit.rows)
    sources = [_source(store, [index for index, (owner, _) in enumerate(units) if owner is store]) for store in stores]
    seal_store(root, attributes, units=len(units), sources=sources)
    return Store.open(root)


def merged_attributes(stores: Sequence[Store]) -> StoreAttributes:
    """Returns the attributes of the store that `stores` make, in this order.

    Raises:
        WrongInput: they do not go together.
    """
    if len(stores) < 2:
        raise WrongInput(f"`stores` (={', '.join(str(s.path) for s in stores)}) must be two or more; name another")
    first, held = stores[0], [_texts(store) for store in stores]
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
                f"{name} {there} here and {here} in {first.path}" for name, (here, there) in forbidden.items()
            )
            raise WrongInput(
                f"`stores` (={store.path}) must go with {first.path}; got {shown}; produce it with equal settings"
            )
        for earlier in range(number):
            if held[earlier] & held[number]:
                raise WrongInput(
                    f"`stores` (={store.path}) must hold other text than {stores[earlier].path}; got the same; name "
                    "each text once"
                )
    fingerprints = "".join(store.fingerprint for store in stores)
    every = [store.attributes for store in stores]
    return replace(
        first.attributes,
        corpus=" + ".join(dict.fromkeys(one.corpus for one in every)),
        corpus_fingerprint=hashlib.sha256(f"merge {fingerprints}".encode()).hexdigest(),
        contexts=sum(one.contexts for one in every),
        heldout_contexts=sum(one.heldout_contexts for one in every),
        unit_rows=max(one.unit_rows for one in every),
    )


def _units(store: Store, split: str) -> list[UnitRecord]:
    return [record for record in store.units if record.split == split]


def _texts(store: Store) -> set[str]:
    """What a store's rows come from: units that are the same rows, and corpora, also those of stores merged before."""
    return {store.attributes.corpus_fingerprint, *(unit.digest for unit in store.units), *_corpora(store.sources)}


def _corpora(sources: Sequence[dict[str, Any]]) -> set[str]:
    return {source["corpus_fingerprint"] for source in sources} | {
        text for source in sources for text in _corpora(source["sources"])
    }


def _source(store: Store, units: list[int]) -> dict[str, Any]:
    """What the merged store says of a store that it was made of; `units` are the new numbers."""
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


def _brought(store: Store, unit: UnitRecord, root: Location, index: int, attributes: StoreAttributes) -> UnitRecord:
    """Gives a unit's files a name in the new store, on disk when it returns, and returns their commit record."""
    paths = StorePaths(root)
    attempt = f"{paths.unit_name(index)}/{uuid.uuid4().hex}"
    source, target = StorePaths(store.path).attempt(unit.attempt), paths.attempt(attempt)
    with delivered(target, root) as local:
        for name, promised in unit.files.items():
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                linked = _linked(source / name, local / name)
                size = (local / name).stat().st_size
            except FileNotFoundError:
                raise TornData(f"{source / name} is missing; its unit's commit record promises it") from None
            if size != promised.size:
                raise TornData(
                    f"{source / name} is damaged: {size} bytes where its commit record promises {promised.size}"
                )
            if not linked:
                check_file(local / name, promised, store.trails(unit.index, name))
    return replace(unit, index=index, attempt=attempt, fingerprint=attributes.fingerprint())


def _linked(source: Location, target: Path) -> bool:
    """Links a file, or copies it where that is impossible; says which."""
    if not isinstance(source, Path):
        source.download(target)
        return False
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
        return False
    return True
