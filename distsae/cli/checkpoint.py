"""`distsae checkpoint list|info|verify`: which there are, what is in one, whether every byte of it is right."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distsae.cli.actions import act
from distsae.cli.checkpoint_facts import shown_config, summary_of, when
from distsae.errors import WrongInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distsae.checkpoint.inspecting import Entry, Leftover
    from distsae.checkpoint.threaded_verifying import Verdict

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "Look at a run's checkpoints (list), at what is in one (info), check every byte (verify)."

EXAMPLES = """
  distsae checkpoint list runs/mc
  distsae checkpoint list runs/mc --json
  distsae checkpoint info runs/mc                 (the newest one that looks whole)
  distsae checkpoint info runs/mc --step 400
  distsae checkpoint info runs/mc/checkpoints/step-00000400 --json
  distsae checkpoint verify runs/mc               (exit code 1 if a file is damaged or missing; it is named)
  distsae checkpoint verify runs/mc --all
"""

_LEFT_BY = {
    "saving": "a save, going on or dead; the next save removes dead ones",
    "replaced": "saved again since; the next save removes it",
    "removed": "half deleted; the next save removes it",
    "abandoned": "set aside when the run went back; yours to delete",
    "latest": "of a save that died at its very end; the next save removes it",
}


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Settings of `checkpoint list`.

    Args:
        run: folder of the run, or its checkpoints folder.
        json: print one JSON object instead of lines for people.
    """

    run: str
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckpointInfoConfig:
    """Settings of `checkpoint info`.

    Args:
        run: folder of the run, its checkpoints folder, or a checkpoint's folder.
        step: which checkpoint of the run; by default the newest one that looks whole.
        json: print one JSON object instead of lines for people.
    """

    run: str
    step: int | None = None
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Settings of `checkpoint verify`.

    Args:
        run: folder of the run, its checkpoints folder, or a checkpoint's folder.
        step: which checkpoint of the run; by default the newest, and if it is damaged the ones before until one is
            sound.
        all: check all of them.
    """

    run: str
    step: int | None = None
    all: bool = False


def run(argv: list[str]) -> int:
    """Runs one of the actions and returns the exit code."""
    actions = {"list": _list, "info": _info, "verify": _verify}
    return act("checkpoint", "RUN", actions, argv, help=HELP, examples=EXAMPLES)


def _list(argv: list[str]) -> int:
    from distsae.cli.parsing import parse

    config = parse(
        ListConfig,
        argv,
        prog="distsae checkpoint list",
        examples=EXAMPLES,
        help="Say which checkpoints a run has, by manifests and sizes; no digest is computed.",
        positionals=("run",),
    )
    from distsae.checkpoint.inspecting import look
    from distsae.checkpoint.path_argument import find

    place = find(config.run)
    if place.checkpoint is not None:
        raise WrongInput(
            f"`run` (={config.run}) must be the folder of a run; got a checkpoint; name {place.folder}, or ask "
            "`distsae checkpoint info` what is in it"
        )
    listing = look(place.folder)
    newest = listing.newest
    if config.json:
        summary = {
            "folder": str(listing.folder),
            "checkpoints": [_entry_summary(entry) for entry in listing.entries],
            "leftovers": [_leftover_summary(leftover) for leftover in listing.leftovers],
            "latest": listing.latest,
            "newest_whole": None if newest is None else newest.path.name,
            "bytes": listing.bytes,
        }
        print(json.dumps(summary, indent=2))
        return 0
    names = {entry.path.name for entry in listing.entries}
    print(listing.folder)
    if names:
        print(f"{'step':>12} {'bytes':>18} {'files':>6}  {'written':<25}  looks")
    for entry in listing.entries:
        marks = ["latest"] * (entry.path.name == listing.latest) + ["newest whole"] * (entry is newest)
        line = f"{entry.step:>12,} {entry.bytes:>18,} {entry.files:>6}  {when(entry.written):<25}  {_looks(entry)}"
        print(f"{line}  <- {', '.join(marks)}" if marks else line)
    for leftover in listing.leftovers:
        size, changed = f"{leftover.bytes:,} bytes", when(leftover.changed)
        print(f"{leftover.path.name}: {size}, changed {changed}; {_LEFT_BY.get(leftover.word, 'unknown')}")
    if listing.latest is not None and listing.latest not in names:
        print(f"{listing.folder / 'latest'} names {listing.latest[:80]!a}, which is not there")
    beside = f" and {_count(len(listing.leftovers), 'leftover')}" if listing.leftovers else ""
    print(f"{_count(len(names), 'checkpoint')}{beside}, {listing.bytes:,} bytes")
    return 0


def _info(argv: list[str]) -> int:
    from distsae.cli.parsing import parse

    config = parse(
        CheckpointInfoConfig,
        argv,
        prog="distsae checkpoint info",
        examples=EXAMPLES,
        help="Say what is in a checkpoint, by its manifest.",
        positionals=("run",),
    )
    from distsae.checkpoint.inspecting import contents, look
    from distsae.checkpoint.path_argument import choose_whole

    folder, path = _chosen(config.run, config.step)
    passed = []
    if path is None:
        path = choose_whole(folder)
        newer = takewhile(lambda entry: entry.path != path, reversed(look(folder).entries))
        passed = [fault.replace(f"{folder}/", "") for entry in newer for fault in entry.faults]
    found = contents(path)
    summary = summary_of(found)
    if config.json:
        config_facts = found.facts.get("config")
        tensors = [asdict(tensor) for tensor in found.tensors]
        print(json.dumps({**summary, "passed_over": passed, "config": config_facts, "tensors": tensors}, indent=2))
        return 0
    for line in passed:
        print(f"passed over: {line}")
    for name, value in summary.items():
        for item in value if isinstance(value, list) else [value]:
            print(f"{name:<31} {_shown(item)}")
    for name, value in shown_config(found.facts.get("config")).items():
        print(f"config.{name:<24} {value}")
    width = max((len(tensor.name) for tensor in found.tensors), default=0)
    print(f"\n{'tensor':<{width}}  {'dtype':<5}  {'shape':<20} {'bytes':>18} {'files':>6}")
    for tensor in found.tensors:
        shape = " x ".join(map(str, tensor.shape)) or "one number"
        print(f"{tensor.name:<{width}}  {tensor.dtype:<5}  {shape:<20} {tensor.bytes:>18,} {len(tensor.files):>6}")
    total = sum(tensor.bytes for tensor in found.tensors)
    print(f"{'all':<{width}}  {'':<5}  {'':<20} {total:>18,} {len({f for t in found.tensors for f in t.files}):>6}")
    return 0


def _verify(argv: list[str]) -> int:
    from distsae.cli.parsing import parse

    config = parse(
        VerifyConfig,
        argv,
        prog="distsae checkpoint verify",
        examples=EXAMPLES,
        help="Read every byte of a checkpoint, or of all, and compare digests.",
        positionals=("run",),
    )
    from distsae.checkpoint.inspecting import look
    from distsae.checkpoint.threaded_verifying import bytes_to_read, read_through
    from distsae.progress import Progress

    folder, path = _chosen(config.run, config.step)
    if config.all and path is not None:
        raise WrongInput("`all` (=true) must be given for a whole run; got one of its checkpoints; leave out either")
    listing = look(folder)
    every = [entry.path for entry in listing.entries]
    if path is None and not every:
        raise WrongInput(f"`run` (={config.run}) must have checkpoints; got none; `checkpoint list` what is left")
    faulty = False
    if path is None and listing.disappeared is not None:
        print(f"{folder / listing.disappeared} is not there, though {folder / 'latest'} names it")
        faulty = True
    # By default as far back as a run would go to resume.
    rounds = [[path]] if path is not None else [every] if config.all else [[one] for one in reversed(every)]
    verdicts: dict[Path, Verdict] = {}
    for paths in rounds:
        with Progress(sum(map(bytes_to_read, paths)), "verify", "bytes") as progress:
            found = read_through(paths, progress.advance)
        for verdict in found:
            verdicts[verdict.path] = verdict
            _tell(verdict)
        if any(verdict.sound for verdict in found):
            break
    if folder.resolve().name == "checkpoints":
        print(f"`--resume auto` {_resumed_from(list(reversed(every)), verdicts)}")
    faulty = faulty or any(verdict.faults for verdict in verdicts.values())
    return 1 if faulty or not any(verdict.sound for verdict in verdicts.values()) else 0


def _tell(verdict: Verdict) -> None:
    for fault in verdict.faults:
        print(fault)
    size = f"{_count(verdict.files, 'file')}, {verdict.bytes:,} bytes"
    if verdict.gone:
        print(f"{verdict.path}: deleted meanwhile")
    elif verdict.faults:
        print(f"{verdict.path}: {_count(len(verdict.faults), 'fault')} in {size}")
    else:
        print(f"{verdict.path}: {size}: sound")


def _resumed_from(newest_first: Sequence[Path], verdicts: dict[Path, Verdict]) -> str:
    for path in newest_first:
        if path not in verdicts:
            return f"looks at {path.name} first, which has not been read now"
        if verdicts[path].sound:
            return f"takes {path.name}"
    return "finds no sound checkpoint, and does not begin anew over damaged ones"


def _chosen(run: str, step: int | None) -> tuple[Path, Path | None]:
    """Returns the folder of checkpoints, and the one that was asked for, if one was."""
    from distsae.checkpoint.path_argument import choose_step, find

    place = find(run)
    if step is None:
        return place.folder, place.checkpoint
    if place.checkpoint is not None:
        raise WrongInput(f"`step` (={step}) must be left out where `run` (={run}) is a checkpoint; name its run")
    return place.folder, choose_step(place.folder, step)


def _entry_summary(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "path": str(entry.path), "written": when(entry.written), "looks_whole": entry.looks_whole}


def _leftover_summary(leftover: Leftover) -> dict[str, Any]:
    return {**asdict(leftover), "path": str(leftover.path), "changed": when(leftover.changed)}


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
