"""Reads a run folder: what was asked, what was logged, what was measured.

A report must survive runs that are unfinished: a run without an evaluation still has its curves, and the last line
of a log may be cut where the process died.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from distsae.errors import DistsaeError, TornData, WrongInput
from distsae.store import Store

__all__ = ["Array", "ReportedRun", "load_runs", "same_text"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """One run, as far as it got.

    Args:
        path: its folder.
        name: what the report calls it; unique among the runs of a report.
        column: its place in the report, from 0; decides how it is drawn.
        config: content of `config.yaml`, nested.
        metrics: columns of `metrics.jsonl` by key, `[lines]` each, NaN where a line lacks the key; empty without a log.
        feature_choice_from: tokens after which Mutual Choice gave way to Feature Choice, or None.
        sae: content of `sae/config.json`; empty before training has ended.
        store: `model`, `corpus`, `rows` and so on of the store, if it is still where it was; else empty.
        evaluation: content of `evaluation.json`, or None.
        arrays: content of `evaluation.npz`; empty without an evaluation.
    """

    path: Path
    name: str
    column: int
    config: dict[str, Any]
    metrics: dict[str, Array]
    feature_choice_from: float | None
    sae: dict[str, Any]
    store: dict[str, Any]
    evaluation: dict[str, Any] | None
    arrays: dict[str, npt.NDArray[Any]]

    def setting(self, key: str) -> Any:  # noqa: ANN401 (whatever the YAML holds)
        """Returns the value at a dotted key of the config, or None."""
        value: Any = self.config
        for part in key.split("."):
            if not isinstance(value, dict):
                return None
            value = value.get(part)
        return value

    def measured(self, key: str) -> Any:  # noqa: ANN401 (whatever the JSON holds)
        """Returns the value at a dotted key of the evaluation, or None."""
        value: Any = self.evaluation
        for part in key.split("."):
            if not isinstance(value, dict):
                return None
            value = value.get(part)
        return value


def load_runs(paths: Sequence[str | Path]) -> list[ReportedRun]:
    """Reads run folders, in order.

    Raises:
        WrongInput: a folder is missing, is given twice, or is no run.
        TornData: a file in it is damaged; it is named.
    """
    folders = [Path(path) for path in paths]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise WrongInput(f"`runs` (={' '.join(map(str, paths))}) must name each run once; leave out the repetition")
    return [_load(folder, name, i) for i, (folder, name) in enumerate(zip(folders, _names(folders), strict=True))]


def same_text(runs: Sequence[ReportedRun]) -> bool:
    """Says whether all evaluated runs were evaluated on the same tokens; only then can their numbers be compared."""
    return len({run.measured("text_digest") for run in runs if run.evaluation is not None}) <= 1


def _names(folders: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of the paths that tell the runs apart."""
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({p[-depth:] for p in parts}) < len(parts):
        depth += 1
    return ["/".join(p[-depth:]) for p in parts]


def _load(folder: Path, name: str, column: int) -> ReportedRun:
    if not folder.is_dir():
        raise WrongInput(f"`runs` (={folder}) must be a run folder; no such folder; check the path")
    config_file, log = folder / "config.yaml", folder / "metrics.jsonl"
    if not config_file.is_file() and not log.is_file():
        raise WrongInput(
            f"`runs` (={folder}) must be a run folder; got neither config.yaml nor metrics.jsonl there; give the "
            "folder that `distsae train --out` wrote"
        )
    config, lines = _yaml(config_file), _lines(log)
    return ReportedRun(
        path=folder,
        name=name,
        column=column,
        config=config,
        metrics=_columns(lines),
        feature_choice_from=_switch(lines),
        sae=_json(folder / "sae" / "config.json") or {},
        store=_store(config.get("store")),
        evaluation=_json(folder / "evaluation.json"),
        arrays=_arrays(folder / "evaluation.npz"),
    )


def _yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TornData(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise TornData(f"{file} must map keys to values; got {type(content).__name__}")
    return content


def _json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TornData(f"{file} is not valid JSON: {error}; run `distsae evaluate` again") from error
    if not isinstance(content, dict):
        raise TornData(f"{file} must be a JSON object; got {type(content).__name__}")
    return content


def _lines(log: Path) -> list[dict[str, Any]]:
    """Returns the lines of a log in order of steps."""
    if not log.is_file():
        return []
    lines = log.read_text().splitlines()
    by_step: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            step = int(values["step"])
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break  # the process was killed while it wrote this line
            raise TornData(f"{log}, line {number}, is not a JSON object with a `step`") from error
        by_step[step] = values  # a resumed run logs some steps again; the later line is the one that counts
    return [by_step[step] for step in sorted(by_step)]


def _columns(lines: Sequence[dict[str, Any]]) -> dict[str, Array]:
    numeric = dict.fromkeys(key for values in lines for key, value in values.items() if not isinstance(value, str))
    return {key: np.array([_float(values.get(key)) for values in lines]) for key in numeric}


def _switch(lines: Sequence[dict[str, Any]]) -> float | None:
    for before, after in itertools.pairwise(lines):
        if before.get("allocation") != "feature_choice" and after.get("allocation") == "feature_choice":
            return _float(before.get("tokens"))
    return None


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    if not file.is_file():
        return {}
    try:
        with np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise TornData(f"{file} cannot be read: {error}; run `distsae evaluate` again") from error


def _store(path: object) -> dict[str, Any]:
    try:
        store = Store.open(str(path)) if path else None
    except DistsaeError:
        return {}  # moved or deleted since: the report does without
    if store is None:
        return {}
    attributes = store.attributes
    return {
        "model": attributes.model,
        "corpus": attributes.corpus,
        "rows": store.rows,
        "dtype": attributes.dtype,
        "context_length": attributes.context_length,
    }
