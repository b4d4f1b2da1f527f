"""Reads run folders for a report: config, log, evaluation and facts of the store.

A run may be unfinished. Without an evaluation it still has its curves, and the last line of its log may be cut where
the process was killed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distsae.checked_files import read_json_object, read_regular
from distsae.errors import DistsaeError, TornData, WrongInput
from distsae.nested_keys import at_key
from distsae.reporting.run_files import read_arrays, read_config, read_evaluation
from distsae.store import Store

__all__ = ["Array", "ReportedRun", "load_runs", "same_rows", "same_text"]

_MOST_LOG_BYTES = 1 << 30

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """One run of a report, finished or not.

    Args:
        path: folder of the run.
        name: name of the run in the report, unique among its runs.
        column: index of the run in the report, from 0; it decides colour and dash.
        config: content of `config.yaml`, nested.
        metrics: columns of `metrics.jsonl` by key, `[lines]` each, NaN where a line lacks the key; empty without a log.
        feature_choice_from: tokens after which Feature Choice replaced Mutual Choice; None if it did not.
        sae: content of `sae/config.json`; empty before training has ended.
        store: facts of the store, such as `model`, `corpus` and `rows`; empty if it is no longer where it was.
        evaluation: content of `evaluation.json`; None without an evaluation.
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

    def setting(self, key: str) -> Any:  # noqa: ANN401 (any YAML value)
        """Returns the value at a dotted key of the config; None if there is none."""
        return at_key(self.config, key)

    def measured(self, key: str) -> Any:  # noqa: ANN401 (any JSON value)
        """Returns the value at a dotted key of the evaluation; None if there is none."""
        return at_key(self.evaluation, key)


def load_runs(paths: Sequence[str | Path]) -> list[ReportedRun]:
    """Reads run folders, in the order of `paths`.

    Raises:
        WrongInput: a folder is missing, is given twice, or is no run.
        TornData: a file of a run is damaged; the text names it.
    """
    folders = [Path(path) for path in paths]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise WrongInput(f"`runs` (={' '.join(map(str, paths))}) must name each run once; leave out the repetition")
    named = zip(folders, _names(folders), strict=True)
    return [_load(folder, name, column) for column, (folder, name) in enumerate(named)]


def same_text(runs: Sequence[ReportedRun]) -> bool:
    """Returns whether all evaluated runs were evaluated on the same tokens; only then can they be compared."""
    return len({run.measured("text_digest") for run in runs if run.evaluation is not None}) <= 1


def same_rows(runs: Sequence[ReportedRun]) -> bool:
    """Returns whether the figures of all evaluated runs are over the same rows: no run left out more of the text."""
    return same_text(runs) and len({run.measured("rows") for run in runs if run.evaluation is not None}) <= 1


def _names(folders: Sequence[Path]) -> list[str]:
    """Returns a name for each folder: as many last parts of its path as tell all folders apart."""
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({path[-depth:] for path in parts}) < len(parts):
        depth += 1
    return ["/".join(path[-depth:]) for path in parts]


def _load(folder: Path, name: str, column: int) -> ReportedRun:
    if not folder.is_dir():
        raise WrongInput(f"`runs` (={folder}) must be a run folder; got no such folder; check the path")
    config_file, log = folder / "config.yaml", folder / "metrics.jsonl"
    sae_config = folder / "sae" / "config.json"
    if not config_file.is_file() and not log.is_file():
        raise WrongInput(
            f"`runs` (={folder}) must be a run folder; got neither config.yaml nor metrics.jsonl there; give the "
            "folder that `distsae train --out` wrote"
        )
    config, lines = read_config(config_file), _lines(log)
    return ReportedRun(
        path=folder,
        name=name,
        column=column,
        config=config,
        metrics=_columns(lines),
        feature_choice_from=_feature_choice_from(lines),
        sae=read_json_object(sae_config) if sae_config.exists() else {},
        store=_store(config.get("store")),
        evaluation=read_evaluation(folder / "evaluation.json"),
        arrays=read_arrays(folder / "evaluation.npz"),
    )


def _lines(log: Path) -> list[dict[str, Any]]:
    """Returns the lines of a log in the order of steps, one for each step."""
    if not log.exists():
        return []
    lines = read_regular(log, _MOST_LOG_BYTES).decode(errors="replace").splitlines()
    by_step: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            step = int(values["step"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            if number == len(lines):
                break  # the process was killed while it wrote this line
            raise TornData(f"{log}, line {number}, is not a JSON object with a `step`") from error
        by_step[step] = values  # a resumed run logs some steps again; the later line counts
    return [by_step[step] for step in sorted(by_step)]


def _columns(lines: Sequence[dict[str, Any]]) -> dict[str, Array]:
    """Returns the numbers of a log by key, `[lines]` each."""
    numeric = dict.fromkeys(key for values in lines for key, value in values.items() if not isinstance(value, str))
    return {key: np.array([_float(values.get(key)) for values in lines]) for key in numeric}


def _feature_choice_from(lines: Sequence[dict[str, Any]]) -> float | None:
    """Returns the tokens of the last logged line before the change from another rule to Feature Choice."""
    for before, after in itertools.pairwise(lines):
        if before.get("allocation") != "feature_choice" and after.get("allocation") == "feature_choice":
            return _float(before.get("tokens"))
    return None


def _float(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float) else float("nan")
    except OverflowError:
        return float("nan")


def _store(path: object) -> dict[str, Any]:
    """Returns facts of the store at `path`; none if it cannot be opened."""
    try:
        store = Store.open(str(path)) if path else None
    except (DistsaeError, OSError):
        return {}  # moved or deleted since; a report can do without its facts
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
