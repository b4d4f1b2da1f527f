"""Delivers a folder of files to a store, so that all of them outlast a crash.

Zarr writes to the local disk. In a local store it writes into the final folder, which is then forced to the disk; for
an object store it writes into a temporary folder, whose files are then uploaded.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from distsae.durable import sync
from distsae.store.location import Location, remove_tree

__all__ = ["delivered", "fsync_tree"]

_UPLOAD_THREADS = 8


@contextmanager
def delivered(folder: Location, root: Location) -> Iterator[Path]:
    """Yields a local folder to write into; when the block ends, its files are in `folder` and outlast a crash.

    If `folder` is local, the block gets `folder` itself, and a failure removes it. If it is in an object store, the
    block gets a temporary folder (`TMPDIR`), whose disk therefore needs space for one unit.

    Args:
        folder: folder that no other process writes into.
        root: folder of the store, an ancestor of `folder`.
    """
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield folder
            fsync_tree(folder, root)
        except BaseException:  # the disk may be full, so free its space at once
            remove_tree(folder)
            raise
        return
    with tempfile.TemporaryDirectory(prefix="distsae-") as temporary:
        yield Path(temporary)
        files = [path for path in Path(temporary).rglob("*") if path.is_file()]
        with ThreadPoolExecutor(max_workers=_UPLOAD_THREADS) as pool:
            list(pool.map(lambda file: (folder / file.relative_to(temporary).as_posix()).upload(file), files))


def fsync_tree(folder: Path, root: Location) -> None:
    """Forces every file and folder under `folder` to the disk, and every folder from there up to `root`.

    Raises:
        OSError: a folder cannot be listed, or a file cannot be forced to the disk.
    """

    def fail(error: OSError) -> None:
        raise error

    for parent, _, files in os.walk(folder, topdown=False, onerror=fail):
        for name in files:
            sync(Path(parent) / name)
        sync(Path(parent))
    while folder != root:
        folder = folder.parent
        sync(folder)
