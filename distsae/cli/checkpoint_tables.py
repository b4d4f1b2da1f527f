"""The lines that `distsae checkpoint` prints: checkpoints of a folder, contents of one, verdict on one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from distsae.cli.checkpoint_facts import shown_config, summary_of, when

if TYPE_CHECKING:
    from distsae.checkpoint.inspecting import Contents, Entry, Listing
    from distsae.checkpoint.threaded_verifying import Verdict

__all__ = ["contents_lines", "listing_lines", "verdict_lines"]

_LEFT_BY = {
    "saving": "a save that is running or was interrupted; the next save removes an interrupted one",
    "replaced": "saved again since; the next save removes it",
    "removed": "partly deleted; the next save removes it",
    "abandoned": "set aside when the run went back; yours to delete",
    "latest": "a save that was interrupted at its very end; the next save removes it",
}
"""Where a leftover comes from and who removes it, by `Leftover.word`."""


def listing_lines(listing: Listing) -> Iterator[str]:
    """Yields the table of `checkpoint list`: checkpoints, then leftovers, then totals."""
    newest = listing.newest
    names = {entry.path.name for entry in listing.entries}
    yield str(listing.folder)
    if names:
        yield f"{'step':>12} {'bytes':>18} {'files':>6}  {'written':<25}  looks"
    for entry in listing.entries:
        marks = ["latest"] * (entry.path.name == listing.latest) + ["newest whole"] * (entry is newest)
        line = f"{entry.step:>12,} {entry.bytes:>18,} {entry.files:>6}  {when(entry.written):<25}  {_looks(entry)}"
        yield f"{line}  <- {', '.join(marks)}" if marks else line
    for leftover in listing.leftovers:
        origin = _LEFT_BY.get(leftover.word, "unknown")
        yield f"{leftover.path.name}: {leftover.bytes:,} bytes, changed {when(leftover.changed)}; {origin}"
    if listing.latest is not None and listing.latest not in names:
        yield f"{listing.folder / 'latest'} names {listing.latest[:80]!a}, which is not there"
    leftovers = f" and {_count(len(listing.leftovers), 'leftover')}" if listing.leftovers else ""
    yield f"{_count(len(names), 'checkpoint')}{leftovers}, {listing.bytes:,} bytes"


def contents_lines(found: Contents) -> Iterator[str]:
    """Yields the lines of `checkpoint info`: facts, settings of the run, then a table of the tensors."""
    for name, value in summary_of(found).items():
        for item in value if isinstance(value, list) else [value]:
            yield f"{name:<31} {_shown(item)}"
    for name, value in shown_config(found.facts.get("config")).items():
        yield f"config.{name:<24} {value}"
    width = max((len(tensor.name) for tensor in found.tensors), default=0)
    yield f"\n{'tensor':<{width}}  {'dtype':<5}  {'shape':<20} {'bytes':>18} {'files':>6}"
    for tensor in found.tensors:
        shape = " x ".join(map(str, tensor.shape)) or "one number"
        yield f"{tensor.name:<{width}}  {tensor.dtype:<5}  {shape:<20} {tensor.bytes:>18,} {len(tensor.files):>6}"
    size = sum(tensor.bytes for tensor in found.tensors)
    files = {file for tensor in found.tensors for file in tensor.files}
    yield f"{'all':<{width}}  {'':<5}  {'':<20} {size:>18,} {len(files):>6}"


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """Yields a line for each fault of a checkpoint, and then one on the checkpoint as a whole."""
    yield from verdict.faults
    size = f"{_count(verdict.files, 'file')}, {verdict.bytes:,} bytes"
    if verdict.gone:
        yield f"{verdict.path}: deleted meanwhile"
    elif verdict.faults:
        yield f"{verdict.path}: {_count(len(verdict.faults), 'fault')} in {size}"
    else:
        yield f"{verdict.path}: {size}: sound"


def _shown(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _looks(entry: Entry) -> str:
    if entry.looks_whole:
        return "whole"
    more = len(entry.faults) - 1
    first = entry.faults[0].replace(f"{entry.path}/", "")
    return f"damaged: {first}{f' and {more} more' if more else ''}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
