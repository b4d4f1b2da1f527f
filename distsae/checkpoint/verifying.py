"""Reading a checkpoint's files and comparing them with its manifest, each file once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from distsae.checkpoint.file_digest import FileDigest, compare
from distsae.checkpoint.manifest import read_manifest
from distsae.checkpoint.ranks import Ranks
from distsae.errors import DistsaeError, TornData

__all__ = ["check_files", "verify"]


def check_files(folder: Path, files: Mapping[str, FileDigest], ranks: Ranks) -> None:
    """Checks all `files` of `folder`, shared out over the ranks; a collective.

    In a save, most ranks so read what another one wrote, which also finds out a folder that is not shared.

    Raises:
        TornData: on every rank, naming a file that is missing, too short or long, or damaged.
    """

    def own() -> None:
        for index, name in enumerate(sorted(files)):
            if (index + 1) % ranks.size == ranks.rank and (problem := compare(folder / name, files[name])):
                raise TornData(problem)

    ranks.together(own)


def verify(path: Path, ranks: Ranks | None = None, on_read: Callable[[int], None] = lambda size: None) -> list[str]:
    """Reads every file of a checkpoint and returns what is wrong with it, one line a problem; empty when it is sound.

    Files that the manifest does not list are not looked at.

    Args:
        path: the checkpoint's folder.
        ranks: that share the work, and all get the same answer; None for this process alone.
        on_read: called with bytes as this process reads them.
    """
    ranks = ranks if ranks is not None else Ranks(None)

    def own() -> list[str]:
        try:
            files = read_manifest(path).files
            mine = sorted(files)[ranks.rank :: ranks.size]
            problems = [compare(path / name, files[name], on_read) for name in mine]
        except (DistsaeError, OSError) as error:
            return [str(error)]
        return [problem for problem in problems if problem]

    return list(dict.fromkeys(problem for problems in ranks.together(own) for problem in problems))
