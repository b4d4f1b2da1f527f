"""The config of a report: which runs, and where the page goes."""

from __future__ import annotations

from dataclasses import dataclass

from distsae.store.mounted_path import mounted_path

__all__ = ["ReportConfig"]


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Puts one run or several side by side on one static page.

    Args:
        runs: run folders, in the order of the columns.
        out: folder of the page; by default report/ in the run folder, or beside the first of several run folders.
    """

    runs: tuple[str, ...]
    out: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", tuple(str(mounted_path(run, "runs")) for run in self.runs))
        if self.out is not None:
            object.__setattr__(self, "out", str(mounted_path(self.out, "out")))
