"""`distsae demo`: the whole pipeline on a bare machine, from the text in a Python installation to an HTML report.

Every stage is a command of its own, which is shown before it runs and shows its own progress. Finished stages are
recorded in `OUT/demo.json` and skipped the next time, so an interrupted demo continues with the stage that was
interrupted; that command continues its own work.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from distsae import __version__
from distsae.checked_files import WrongField, read_json_object, typed
from distsae.durable import replacing
from distsae.errors import TornData, WrongInput
from distsae.exit_codes import as_code
from distsae.nested_keys import at_key
from distsae.recipes.demo_stages import RUNS, DemoConfig, Stage, demo_stages
from distsae.reporting.run_files import read_evaluation
from distsae.signals import listening, stop_signals

__all__ = ["run_demo", "summary"]

_OWN_ENTRIES = ("corpus.jsonl", "store", "runs", "report", "demo.json", "demo.partial")

_COLUMNS = {
    "FVU": "fvu",
    "loss recovered": "loss_recovered_zero",
    "L0": "l0",
    "dead share": "dead_share",
    "features/token std": "features_per_token_std",
}
_FROZEN_COLUMNS = {"L0": "l0", "FVU": "fvu", "dead share": "dead_share"}


def run_demo(config: DemoConfig) -> int:
    """Runs the stages that are not finished, then prints the table of results and the path of the report.

    Returns:
        0, or the exit code of the stage that failed, after one line that names it.

    Raises:
        WrongInput: `out` holds other files or a demo with other settings, or the packages for the report are missing.
    """
    _require_report_packages()
    out = Path(config.out)
    if config.fresh:
        _remove_earlier(out)
    record = _Record(out, config)
    stages = demo_stages(config)
    started = time.monotonic()
    for number, stage in enumerate(stages, start=1):
        print(f"\n[{number}/{len(stages)}] {stage.title}", flush=True)
        if record.is_finished(stage):
            print(f"finished before ({record.seconds[stage.name]:.0f} s): {stage.product}", flush=True)
            continue
        print(_shown(stage.command), flush=True)
        stage_started = time.monotonic()
        code = _run(stage.command)
        if code == 0 and not stage.product.is_file():
            print(f"distsae: error: demo stage {stage.name} ended without {stage.product}", file=sys.stderr)
            return 1
        if code != 0:
            print(
                f"distsae: error: demo stage {stage.name} failed with exit code {code}; see its message above; "
                f"run the same `distsae demo` again to continue from here",
                file=sys.stderr,
            )
            return code
        record.add(stage, time.monotonic() - stage_started)
    pages = [f"feature pages: {stage.product.with_name('index.html')}" for stage in stages if stage.name == "features"]
    ends = [_times(record, time.monotonic() - started), *pages, f"report: {stages[-1].product}"]
    print(f"\n{summary(out)}\n", *ends, sep="\n", flush=True)
    return 0


def summary(out: Path) -> str:
    """Returns a table of the runs' results, read from their `evaluation.json` files in the demo's folder `out`."""
    rows = [["run", *_COLUMNS, *(f"frozen {name}" for name in _FROZEN_COLUMNS)]]
    for name in RUNS:
        evaluation = read_evaluation(out / "runs" / name / "evaluation.json")
        values = [at_key(evaluation, key) for key in _COLUMNS.values()]
        values += [at_key(evaluation, f"frozen_rule.{key}") for key in _FROZEN_COLUMNS.values()]
        rows.append([name.replace("_", " "), *("-" if value is None else f"{value:.4g}" for value in values)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for name, *values in rows:
        cells = [name.ljust(widths[0])]
        cells += [value.rjust(width) for value, width in zip(values, widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class DemoRecord:
    """The content of `demo.json`: the settings of the demo, and the seconds that each finished stage took."""

    settings: dict[str, Any]
    seconds: dict[str, float]


class _Record:
    """The file `OUT/demo.json`, which holds the settings of the demo and its finished stages."""

    def __init__(self, out: Path, config: DemoConfig) -> None:
        self._path = out / "demo.json"
        settings = dataclasses.asdict(config) | {"distsae": __version__}
        self._settings = {key: value for key, value in settings.items() if key not in ("out", "fresh")}
        self.seconds: dict[str, float] = {}
        if self._path.is_file():
            try:
                earlier = typed(DemoRecord, read_json_object(self._path))
            except WrongField as error:
                raise TornData(f"{self._path} is not the record of a demo: {error}; give --fresh") from None
            for key, value in self._settings.items():
                if earlier.settings.get(key) != value:
                    raise WrongInput(
                        f"`{key}` (={value}) must be as in the demo that was started in {out}; got "
                        f"{earlier.settings.get(key)} there; give --fresh to start again, or another --out"
                    )
            self.seconds = earlier.seconds
        elif out.is_dir() and any(out.iterdir()):
            raise WrongInput(
                f"`out` (={out}) must be a new or empty folder, or the folder of a demo; got a folder of other files; "
                "give another --out"
            )
        else:
            out.mkdir(parents=True, exist_ok=True)
            self._write()

    def is_finished(self, stage: Stage) -> bool:
        return stage.name in self.seconds and stage.product.is_file()

    def add(self, stage: Stage, seconds: float) -> None:
        self.seconds[stage.name] = round(seconds, 1)
        self._write()

    def _write(self) -> None:
        content = json.dumps({"settings": self._settings, "seconds": self.seconds}, indent=2) + "\n"
        with replacing(self._path, self._path.with_suffix(".partial")) as temporary:
            temporary.write_text(content)


def _require_report_packages() -> None:
    missing = [name for name in ("matplotlib", "jinja2") if importlib.util.find_spec(name) is None]
    if missing:
        raise WrongInput(
            f"the demo needs {' and '.join(missing)} for its report; install them with `pip install 'distsae[report]'`"
        )


def _remove_earlier(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / "demo.json").is_file():
        raise WrongInput(
            f"`out` (={out}) must be the folder of a demo for --fresh; got a folder without demo.json; "
            "give another --out"
        )
    for entry in _OWN_ENTRIES:
        path = out / entry
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    """Returns variables for the commands: processes run on the CPU and communicate over the loopback device."""
    added = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    if "GLOO_SOCKET_IFNAME" not in os.environ and Path("/sys/class/net/lo").exists():
        added["GLOO_SOCKET_IFNAME"] = "lo"  # the name of the host may not resolve
    return added


def _shown(command: tuple[str, ...]) -> str:
    """Returns the command in a form that can be pasted into a shell, with one option a line."""
    words = [f"{name}={shlex.quote(value)}" for name, value in _environment().items()]
    line = "$ " + " ".join(words)
    for word in command:
        line += (" \\\n    " if word.startswith("--") else " ") + shlex.quote(word)
    return line


def _run(command: tuple[str, ...]) -> int:
    """Runs `command` and returns its exit code; on SIGTERM, SIGHUP or Ctrl-C, ends the command before this process."""
    process = subprocess.Popen(command, env=os.environ | _environment())

    def stop(_: signal.Signals) -> None:
        raise KeyboardInterrupt

    try:
        with listening([number for number in stop_signals() if number in (signal.SIGTERM, signal.SIGHUP)], stop):
            code = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    return as_code(code)


def _times(record: _Record, elapsed: float) -> str:
    stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in record.seconds.items())
    return f"seconds: {stages}; this time {elapsed:.0f}, all stages {sum(record.seconds.values()):.0f}"
