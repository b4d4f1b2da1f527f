"""The check: its parts in order, each shown when it is done, until the time is used up."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from distsae.devices import device_named
from distsae.durable import replace
from distsae.errors import DistsaeError
from distsae.exit_codes import DONE, FAILED
from distsae.recipes.check.config import CheckConfig
from distsae.recipes.check.finding import Finding
from distsae.recipes.check.groups import groups_found
from distsae.recipes.check.operations import kernels_found, margin_found
from distsae.recipes.check.rates import make_store, rates_found, reading_found
from distsae.recipes.check.runs import runs_found
from distsae.recipes.check.steps import steps_found
from distsae.recipes.check.table import as_json, line_of, summary_of
from distsae.recipes.check.versions import devices_found, versions_found
from distsae.standard_streams import show

__all__ = ["run_check"]

_LAUNCH_SECONDS = 150.0
"""Most seconds of a launch; it takes a few on most machines, and longer where libraries are on a network disk."""


def run_check(config: CheckConfig, show_line: Callable[[str], None] = show) -> int:
    """Looks at this machine, shows a table, and returns the exit code: `FAILED` if something failed.

    Args:
        config: settings of the check.
        show_line: function that receives the lines of the table.

    Raises:
        WrongInput: there is no such device, or the folder cannot be written to.
    """
    device = device_named(config.device)
    parent = Path(config.folder)
    parent.mkdir(parents=True, exist_ok=True)
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="distsae-check-", dir=parent) as folder:
        for finding in _parts(config, device, Path(folder)):
            findings.append(finding)
            show_line(line_of(finding))
    show_line(summary_of(findings))
    if config.json is not None:
        Path(config.json).parent.mkdir(parents=True, exist_ok=True)
        settings: dict[str, int | str] = {name: getattr(config, name) for name in ("d_in", "k", "batch_tokens")}
        settings["device"] = device.type
        replace(Path(config.json), as_json(findings, settings).encode())
    return FAILED if any(finding.state == "failed" for finding in findings) else DONE


def _parts(config: CheckConfig, device: torch.device, folder: Path) -> Iterable[Finding]:
    ends = time.monotonic() + 60 * config.minutes
    processes = _processes(config)

    def left() -> float:
        return ends - time.monotonic()

    def limit() -> float:
        return min(max(left(), 1.0), _LAUNCH_SECONDS)

    yield versions_found()
    yield devices_found()
    yield from _guarded("kernels", left, lambda: [kernels_found(device)])
    yield from _guarded("bf16 margin", left, lambda: [margin_found(device, config.d_in)])
    yield from _guarded("exchange", left, lambda: [groups_found(processes, limit())])
    store = folder / "store"
    yield from _guarded("reading", left, lambda: [reading_found(config, make_store(config, store), store, device)])
    yield from _guarded("training", left, lambda: runs_found(config, store, folder / "runs", processes, limit()))
    yield from _guarded("rates and steps", left, lambda: _speed(config, device, left))


def _speed(config: CheckConfig, device: torch.device, left: Callable[[], float]) -> Iterable[Finding]:
    rates, found = rates_found(config, device)
    yield from found
    yield from steps_found(config, device, rates, left())


def _guarded(name: str, left: Callable[[], float], part: Callable[[], Iterable[Finding]]) -> Iterable[Finding]:
    """Yields the findings of a part, which fails with the line of its error, or is skipped if no time is left."""
    if left() <= 0:
        yield Finding(name, "skipped", "the time is used up; give more --minutes")
        return
    try:
        yield from part()
    except (DistsaeError, RuntimeError, OSError) as error:  # RuntimeError: torch's, of a driver for example
        yield Finding(name, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _processes(config: CheckConfig) -> int:
    if config.processes is not None:
        return config.processes
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return 2 if (os.cpu_count() or 1) > 1 else 1
