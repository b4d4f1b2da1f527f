"""Comparing the files of checkpoints with their manifests in threads of one process, for the command line.

`distsae.checkpoint.verify` does the same for the ranks of a run.
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

__all__ = ["Verdict", "bytes_to_read", "verify_in_threads"]

_THREADS = min(16, max(4, os.cpu_count() or 1))
"""At least four even on fewer processors, because a thread that reads a file over a network mostly waits."""


@dataclass(frozen=True)
class Verdict:
    """The result of verifying a checkpoint.

    Args:
        path: folder of the checkpoint.
        files: number of data files that the manifest lists.
        bytes: total size of these files by the manifest.
        faults: a line for each file that is missing, damaged or cannot be read; it names the file.
        gone: whether the checkpoint was deleted meanwhile, by the run it belongs to for example. Then there are no
            faults.
    """

    path: Path
    files: int
    bytes: int
    faults: tuple[str, ...]
    gone: bool

    @property
    def sound(self) -> bool:
        """Whether every file is there and has the right content."""
        return not self.faults and not self.gone


def bytes_to_read(path: Path) -> int:
    """Returns the bytes that `verify_in_threads` counts for a checkpoint: the listed size of all its data files."""
    try:
        return sum(digest.bytes for digest in read_manifest(path).files.values())
    except (DistsaeError, OSError):
        return 0


def verify_in_threads(paths: Sequence[Path], on_read: Callable[[int], None] = lambda size: None) -> list[Verdict]:
    """Reads every file of checkpoints, several files at a time, and returns a verdict for each checkpoint.

    Faults are worded as by `distsae.checkpoint.verify`; a file that cannot be read is a fault as well.

    Args:
        paths: folders of the checkpoints.
        on_read: called in the calling thread with the number of bytes whenever some have been read. A file that need
            not be read to its end, one of the wrong size for example, counts with its listed size all the same.
    """
    files: list[tuple[Path, Path, FileDigest]] = []  # checkpoint, file, expected digest
    faults: dict[Path, list[str]] = {path: [] for path in paths}
    for path in faults:
        try:
            listed = read_manifest(path).files
        except (DistsaeError, OSError) as error:
            faults[path].append(str(error))
            continue
        files += [(path, path / name, listed[name]) for name in sorted(listed)]
    problems = _compare_all([(file, expected) for _, file, expected in files], on_read)
    for (path, _, _), problem in zip(files, problems, strict=True):
        if problem:
            faults[path].append(problem)
    verdicts = []
    for path in faults:
        digests = [expected for owner, _, expected in files if owner == path]
        verdicts.append(_verdict(path, digests, faults[path]))
    return verdicts


def _verdict(path: Path, digests: Sequence[FileDigest], faults: Sequence[str]) -> Verdict:
    gone = bool(faults) and not path.is_dir()
    return Verdict(path, len(digests), sum(digest.bytes for digest in digests), () if gone else tuple(faults), gone)


def _compare_all(files: Sequence[tuple[Path, FileDigest]], on_read: Callable[[int], None]) -> list[str]:
    """Returns for each file, in order, a line on its problem, or an empty string."""
    progress: SimpleQueue[int | None] = SimpleQueue()  # bytes read, and None for each file that is finished
    stop = Event()

    def compare_one(path: Path, expected: FileDigest) -> str:
        counted = 0

        def count(size: int) -> None:
            nonlocal counted
            if stop.is_set():
                raise CancelledError
            size = min(size, expected.bytes - counted)  # a file that has grown meanwhile counts with its listed size
            if size:
                counted += size
                progress.put(size)

        try:
            return compare(path, expected, count)
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
        finally:
            if counted < expected.bytes:
                progress.put(expected.bytes - counted)
            progress.put(None)

    pool = ThreadPoolExecutor(_THREADS, "verify")
    try:
        futures = [pool.submit(compare_one, *file) for file in files]
        unfinished = len(futures)
        while unfinished:
            size = progress.get()
            if size is None:
                unfinished -= 1
            else:
                on_read(size)
        return [future.result() for future in futures]
    finally:
        stop.set()  # Ctrl-C ends the threads in the middle of their files
        pool.shutdown(cancel_futures=True)
