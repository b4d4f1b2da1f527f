"""Comparing the files of a checkpoint with its manifest; the ranks of a run share the reading, each file once.

`distsae.checkpoint.threaded_verifying` does the same in one process, for the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from distsae.checkpoint.file_digest import FileDigest, compare
from distsae.checkpoint.manifest import read_manifest
from distsae.checkpoint.ranks import Ranks
from distsae.errors import DistsaeError, TornData

__all__ = ["check_files", "verify"]


def check_files(folder: Path, files: Mapping[str, FileDigest], ranks: Ranks) -> None:
    """Checks all `files` of `folder`; the ranks divide them among themselves. Collective.

    After a save, most ranks thus read a file that another rank wrote, which also detects a folder that is not shared.

    Raises:
        TornData: on every rank: a file is missing, has another size or is damaged; the text names it.
    """

    def check_own_part() -> None:
        for index, name in enumerate(sorted(files)):
            if (index + 1) % ranks.size == ranks.rank and (problem := compare(folder / name, files[name])):
                raise TornData(problem)

    ranks.together(check_own_part)


def verify(path: Path, ranks: Ranks | None = None, on_read: Callable[[int], None] = lambda size: None) -> list[str]:
    """Reads every file of a checkpoint and returns a line for each problem, none if it is sound. Collective.

    Files that the manifest does not list are ignored.

    Args:
        path: folder of the checkpoint.
        ranks: ranks that share the reading and all get the same answer; None for this process alone.
        on_read: called with the number of bytes whenever this process has read some.
    """
    ranks = ranks if ranks is not None else Ranks(None)

    def problems_of_own_part() -> list[str]:
        try:
            files = read_manifest(path).files
            names = sorted(files)[ranks.rank :: ranks.size]
            problems = [compare(path / name, files[name], on_read) for name in names]
        except (DistsaeError, OSError) as error:
            return [str(error)]
        return [problem for problem in problems if problem]

    # Every rank reports the same problem of the manifest, which is listed once.
    found = dict.fromkeys(problem for problems in ranks.together(problems_of_own_part) for problem in problems)
    return list(found)
