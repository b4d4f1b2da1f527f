"""`distsae checkpoint list|info|verify`: the checkpoints of a run, the contents of one, and a check of every byte."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distsae.cli.actions import Action, act
from distsae.cli.checkpoint_facts import summary_of, when
from distsae.cli.checkpoint_tables import contents_lines, listing_lines, verdict_lines
from distsae.errors import WrongInput
from distsae.progress import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from distsae.checkpoint.inspecting import Entry, Leftover
    from distsae.checkpoint.threaded_verifying import Verdict

__all__ = ["EXAMPLES", "HELP", "run"]

HELP = "List a run's checkpoints (list), show what one holds (info), check every byte (verify)."

EXAMPLES = """
  distsae checkpoint list runs/mc
  distsae checkpoint list runs/mc --json
  distsae checkpoint info runs/mc                 (the newest one that looks whole)
  distsae checkpoint info runs/mc --step 400
  distsae checkpoint info runs/mc/checkpoints/step-00000400 --json
  distsae checkpoint verify runs/mc               (exit code 1 if a file is damaged or missing; it is named)
  distsae checkpoint verify runs/mc --all
"""


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Settings of `checkpoint list`.

    Args:
        run: folder of the run, or its checkpoints folder.
        json: print one JSON object instead of text.
    """

    run: str
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckpointInfoConfig:
    """Settings of `checkpoint info`.

    Args:
        run: folder of the run, its checkpoints folder, or a checkpoint's folder.
        step: step of the checkpoint to show; by default the newest one that looks whole.
        json: print one JSON object instead of text.
    """

    run: str
    step: int | None = None
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Settings of `checkpoint verify`.

    Args:
        run: folder of the run, its checkpoints folder, or a checkpoint's folder.
        step: step of the checkpoint to check; by default the newest, and if it is damaged the ones before until one is
            sound.
        all: check all checkpoints of the run.
    """

    run: str
    step: int | None = None
    all: bool = False


def run(argv: list[str]) -> int:
    """Runs the action that `argv` begins with and returns the exit code."""
    actions: dict[str, Action[Any]] = {
        "list": Action(
            config_class=ListConfig,
            run=_list,
            help="List a run's checkpoints by their manifests and file sizes; no digest is computed.",
            positionals=("run",),
        ),
        "info": Action(
            config_class=CheckpointInfoConfig,
            run=_info,
            help="Show what a checkpoint holds, by its manifest.",
            positionals=("run",),
        ),
        "verify": Action(
            config_class=VerifyConfig,
            run=_verify,
            help="Read every byte of a checkpoint, or of all, and compare digests.",
            positionals=("run",),
        ),
    }
    return act("checkpoint", "RUN", actions, argv, help=HELP, examples=EXAMPLES)


def _list(config: ListConfig) -> int:
    from distsae.checkpoint.inspecting import look
    from distsae.checkpoint.path_argument import resolve_path

    named = resolve_path(config.run)
    if named.checkpoint is not None:
        raise WrongInput(
            f"`run` (={config.run}) must be the folder of a run; got a checkpoint; give {named.folder}, or use "
            "`distsae checkpoint info` to see what it holds"
        )
    listing = look(named.folder)
    if config.json:
        summary = {
            "folder": str(listing.folder),
            "checkpoints": [_entry_summary(entry) for entry in listing.entries],
            "leftovers": [_leftover_summary(leftover) for leftover in listing.leftovers],
            "latest": listing.latest,
            "newest_whole": None if listing.newest is None else listing.newest.path.name,
            "bytes": listing.bytes,
        }
        print(json.dumps(summary, indent=2))
    else:
        _print(listing_lines(listing))
    return 0


def _info(config: CheckpointInfoConfig) -> int:
    from distsae.checkpoint.inspecting import contents, look
    from distsae.checkpoint.path_argument import choose_whole

    folder, path = _chosen(config.run, config.step)
    passed_over = []
    if path is None:
        path = choose_whole(folder)
        newer = takewhile(lambda entry: entry.path != path, reversed(look(folder).entries))
        passed_over = [fault.replace(f"{folder}/", "") for entry in newer for fault in entry.faults]
    found = contents(path)
    if config.json:
        details = {
            "passed_over": passed_over,
            "config": found.facts.get("config"),
            "tensors": [asdict(tensor) for tensor in found.tensors],
        }
        print(json.dumps(summary_of(found) | details, indent=2))
    else:
        for line in passed_over:
            show(f"passed over: {line}")
        _print(contents_lines(found))
    return 0


def _verify(config: VerifyConfig) -> int:
    from distsae.checkpoint.inspecting import look
    from distsae.checkpoint.threaded_verifying import bytes_to_read, verify_in_threads
    from distsae.progress import Progress

    folder, path = _chosen(config.run, config.step)
    if config.all and path is not None:
        raise WrongInput(
            "`all` (=true) must be given for a whole run; got one of its checkpoints; leave out `all`, or give the run "
            "without a step"
        )
    listing = look(folder)
    every = [entry.path for entry in listing.entries]
    if path is None and not every:
        raise WrongInput(
            f"`run` (={config.run}) must have checkpoints; got none; use `distsae checkpoint list` to see what is left"
        )
    disappeared = listing.disappeared if path is None else None
    if disappeared is not None:
        show(f"{folder / disappeared} is not there, though {folder / 'latest'} names it")
    if path is not None:
        rounds = [[path]]
    elif config.all:
        rounds = [every]
    else:
        rounds = [[checkpoint] for checkpoint in reversed(every)]  # as far back as a run would go to resume
    verdicts: dict[Path, Verdict] = {}
    for paths in rounds:
        with Progress(sum(map(bytes_to_read, paths)), "verify", "bytes") as progress:
            found = verify_in_threads(paths, progress.advance)
        for verdict in found:
            verdicts[verdict.path] = verdict
            _print(verdict_lines(verdict))
        if any(verdict.sound for verdict in found):
            break
    if folder.resolve().name == "checkpoints":
        show(f"`--resume auto` {_resumed_from(list(reversed(every)), verdicts)}")
    faulty = disappeared is not None or any(verdict.faults for verdict in verdicts.values())
    return 1 if faulty or not any(verdict.sound for verdict in verdicts.values()) else 0


def _resumed_from(newest_first: Sequence[Path], verdicts: Mapping[Path, Verdict]) -> str:
    for path in newest_first:
        if path not in verdicts:
            return f"tries {path.name} first, which was not read now"
        if verdicts[path].sound:
            return f"takes {path.name}"
    return "finds no sound checkpoint, and does not start anew over damaged ones"


def _chosen(run: str, step: int | None) -> tuple[Path, Path | None]:
    """Returns the folder of checkpoints, and the checkpoint in it that `run` or `step` names; None if neither does."""
    from distsae.checkpoint.path_argument import choose_step, resolve_path

    named = resolve_path(run)
    if step is None:
        return named.folder, named.checkpoint
    if named.checkpoint is not None:
        raise WrongInput(
            f"`step` (={step}) must be left out where `run` (={run}) is a checkpoint; give the folder of its run"
        )
    return named.folder, choose_step(named.folder, step)


def _entry_summary(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "path": str(entry.path), "written": when(entry.written), "looks_whole": entry.looks_whole}


def _leftover_summary(leftover: Leftover) -> dict[str, Any]:
    return {**asdict(leftover), "path": str(leftover.path), "changed": when(leftover.changed)}


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        show(line)
