"""The folder of results: a line about each feature, on the disk before the next one is begun.

`settings.json` says what the lines were made with; a command with other settings is refused. A line that a killed
process left unfinished is dropped. One process works in a folder at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, BinaryIO

from distsae.checked_files import Between, WrongField, open_regular, parse_json, typed
from distsae.durable import replace, sync
from distsae.errors import TornData, WrongInput
from distsae.reporting.explanations.scores import JudgementCounts
from distsae.store.json_files import publish_json, read_json

__all__ = ["EXPLANATIONS", "SUMMARY", "FeatureResult", "ResultFolder"]

EXPLANATIONS = "explanations.jsonl"
"""A line about each feature."""

SUMMARY = "explanations.json"
"""Mean scores over the features."""

_SETTINGS = "settings.json"
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FeatureResult:
    """What became of a feature.

    Args:
        feature: its number.
        explanation: the explanation; None if there is none.
        problem: why there is none, or no score; None if there is nothing to say.
        detection: judgements of detection.
        fuzzing: judgements of fuzzing.
        other_firing: upper estimate of how many of the non-activating contexts the feature fires in.
        prompts: number of the prompts' texts.
        model: name of the language model.
        seed: seed of the examples.
    """

    feature: Annotated[int, Between(0)]
    explanation: str | None
    problem: str | None
    detection: JudgementCounts
    fuzzing: JudgementCounts
    other_firing: float
    prompts: int
    model: str
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Returns the result as JSON values, with the scores."""
        return {**asdict(self), "detection": self.detection.to_json(), "fuzzing": self.fuzzing.to_json()}


class ResultFolder:
    """The results of a command, and of those before it in the same folder; open from `with` on.

    Args:
        out: the folder.
        settings: everything that decides what a line says, as JSON values.
    """

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.out = out
        self._settings = settings
        self._file: BinaryIO | None = None
        self.results: dict[int, FeatureResult] = {}

    def refuse_other_content(self) -> None:
        """Checks that the folder is new, empty, or of a command with the same settings. Nothing is made.

        Raises:
            WrongInput: it is not.
        """
        for parent in (self.out, *self.out.absolute().parents):
            if parent.exists() and not parent.is_dir():
                raise WrongInput(f"`out` (={self.out}) must be a folder; got the file {parent}; choose another `out`")
        if not (self.out / _SETTINGS).is_file():
            if self.out.is_dir() and any(self.out.iterdir()):
                raise WrongInput(
                    f"`out` (={self.out}) must be a new folder, or one of explanations; got one with other files; "
                    "choose another `out`"
                )
            return
        found = read_json(self.out / _SETTINGS)
        differing = [
            f"{name} {found.get(name)}, not {value}"
            for name, value in self._settings.items()
            if found.get(name) != value
        ]
        if differing:
            raise WrongInput(
                f"`out` (={self.out}) must be a new folder, or hold explanations of the same settings; got those with "
                f"{'; '.join(differing)}; choose another `out`"
            )

    def __enter__(self) -> ResultFolder:
        """Makes the folder unless it is there, and reads what is done.

        Raises:
            WrongInput: another process works in it, or it holds something else.
            TornData: a line is damaged.
        """
        self.refuse_other_content()
        self.out.mkdir(parents=True, exist_ok=True)
        publish_json(self.out / _SETTINGS, self._settings)
        self.refuse_other_content()
        path = self.out / EXPLANATIONS
        with contextlib.suppress(FileNotFoundError):
            os.close(open_regular(path))  # never a pipe or a device
        self._file = path.open("a+b")
        try:
            self._lock()
            self._read(path)
        except BaseException:
            self._file.close()
            raise
        sync(self.out)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, result: FeatureResult) -> None:
        """Writes a line and returns when it is on the disk."""
        assert self._file is not None
        self._file.write(json.dumps(result.to_json()).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.results[result.feature] = result

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes the summary over an earlier one."""
        replace(self.out / SUMMARY, json.dumps(summary, indent=1).encode() + b"\n")

    def _lock(self) -> None:
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WrongInput(
                f"`out` (={self.out}) must be used by one process at a time; got one that another process works in; "
                "choose another `out`, or wait"
            ) from None
        except OSError:  # a file system without locks
            return

    def _read(self, path: Path) -> None:
        """Reads the lines; a last one without an end is what a killed process left, and is removed."""
        assert self._file is not None
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(iter(functools.partial(self._file.readline, _LONGEST_LINE), b""), 1):
            if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                raise TornData(f"{path} is damaged: line {number} must have at most {_LONGEST_LINE:,} bytes; got more")
            if not line.endswith(b"\n"):
                self._file.truncate(whole)
                break
            whole += len(line)
            where = f"{path} is damaged: line {number}"
            try:
                result = typed(FeatureResult, parse_json(line, where))
            except WrongField as error:
                raise TornData(f"{where}: {error}") from None
            self.results[result.feature] = result
        self._file.seek(0, os.SEEK_END)
