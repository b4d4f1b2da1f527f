"""Every byte of checkpoints against their manifests, in one process, for people who wait for it.

`distsae.checkpoint.verify` is the same for the ranks of a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event

from distsae.checkpoint.file_digest import FileDigest, compare
from distsae.checkpoint.manifest import read_manifest
from distsae.errors import DistsaeError

__all__ = ["Verdict", "bytes_to_read", "read_through"]

_THREADS = min(16, max(4, os.cpu_count() or 1))
"""More than processors, if these are few: a file on a network is waited for."""


@dataclass(frozen=True)
class Verdict:
    """What reading a checkpoint has shown.

    Args:
        path: its folder.
        files: how many data files the manifest lists.
        bytes: of these files, by the manifest.
        faults: a line for each that is missing or damaged, naming it.
        gone: the checkpoint was deleted meanwhile, as by the run it belongs to; there are no faults then.
    """

    path: Path
    files: int
    bytes: int
    faults: tuple[str, ...]
    gone: bool

    @property
    def sound(self) -> bool:
        """Whether every byte is there and right."""
        return not self.faults and not self.gone


def bytes_to_read(path: Path) -> int:
    """Returns the bytes that `read_through` counts for a checkpoint: those of its data files, by its manifest."""
    try:
        return sum(record.bytes for record in read_manifest(path).files.values())
    except (DistsaeError, OSError):
        return 0


def read_through(paths: Sequence[Path], on_read: Callable[[int], None] = lambda size: None) -> list[Verdict]:
    """Reads every byte of checkpoints, in several threads over all their files, and compares it with the manifests.

    Says of each file what `distsae.checkpoint.verify` says, and of a file that cannot be read the reason.

    Args:
        paths: folders of checkpoints.
        on_read: called from this thread with bytes as they are read; a file that need not be read to the end, such as
            one of the wrong size, counts as if it were.
    """
    files: list[tuple[Path, Path, FileDigest]] = []
    faults: dict[Path, list[str]] = {path: [] for path in paths}
    for path in faults:
        try:
            listed = read_manifest(path).files
        except (DistsaeError, OSError) as error:
            faults[path].append(str(error))
            continue
        files += [(path, path / name, listed[name]) for name in sorted(listed)]
    problems = _compare_all([(file, record) for _, file, record in files], on_read)
    for (path, _, _), problem in zip(files, problems, strict=True):
        faults[path] += [problem] if problem else []
    return [_verdict(path, [record for owner, _, record in files if owner == path], faults[path]) for path in faults]


def _verdict(path: Path, records: Sequence[FileDigest], faults: Sequence[str]) -> Verdict:
    gone = bool(faults) and not path.is_dir()
    return Verdict(path, len(records), sum(record.bytes for record in records), () if gone else tuple(faults), gone)


def _compare_all(files: Sequence[tuple[Path, FileDigest]], on_read: Callable[[int], None]) -> list[str]:
    """Returns what is wrong with each file, in their order; an empty string if nothing."""
    news: SimpleQueue[int | None] = SimpleQueue()  # bytes read, and None for each file that is done with
    stop = Event()

    def work(path: Path, expected: FileDigest) -> str:
        counted = 0

        def count(size: int) -> None:
            nonlocal counted
            if stop.is_set():
                raise CancelledError
            size = min(size, expected.bytes - counted)
            if size:  # not of one that has grown meanwhile
                counted += size
                news.put(size)

        try:
            return compare(path, expected, count)
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
        finally:
            if counted < expected.bytes:
                news.put(expected.bytes - counted)
            news.put(None)

    pool = ThreadPoolExecutor(_THREADS, "verify")
    try:
        going = [pool.submit(work, *file) for file in files]
        left = len(going)
        while left:
            size = news.get()
            if size is None:
                left -= 1
            else:
                on_read(size)
        return [future.result() for future in going]
    finally:
        stop.set()  # after Ctrl-C nobody waits for the end of a large file
        pool.shutdown(cancel_futures=True)
