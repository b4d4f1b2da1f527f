"""Reads the Parquet files of feature pages, of which only the features that are wanted stay in memory.

The files may be a stranger's, so their columns and the lengths of their lists are checked.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from distsae.checked_files import open_regular
from distsae.errors import TornData, WrongInput
from distsae.reporting.explanations.feature_contexts import FeatureContexts, TokenWindow
from distsae.reporting.features.parquet_files import SCHEMA
from distsae.reporting.features.work_folder import MANIFEST
from distsae.store.json_files import read_json

__all__ = ["PageTables", "pages_folder"]

_READ = ("feature", "density", "top_contexts", "sampled_contexts", "nearest", "correlated")


def pages_folder(run: str) -> Path:
    """Returns the folder of the finished feature pages that a path means: the path itself, or `features` in it.

    Raises:
        WrongInput: neither holds finished pages with Parquet files and the texts of tokens.
    """
    for folder in (Path(run), Path(run) / "features"):
        if not (folder / MANIFEST).is_file():
            continue
        if not any((folder / "parquet").glob("features-*.parquet")):
            raise WrongInput(
                f"`run` (={run}) must have feature pages with Parquet files; got {folder} without them; "
                "run `distsae features` with another folder to write to, and parquet among its formats"
            )
        return folder
    raise WrongInput(
        f"`run` (={run}) must be a run with finished feature pages, or their folder; got no {MANIFEST} there or in "
        "features/; run `distsae features` first"
    )


class PageTables:
    """The Parquet files of feature pages.

    Args:
        folder: folder of the pages.

    Raises:
        WrongInput: the pages show tokens by their ids.
        TornData: a file is damaged, or is not what `distsae features` writes.
    """

    def __init__(self, folder: Path) -> None:
        settings = read_json(folder / MANIFEST).get("settings")
        if not isinstance(settings, dict) or settings.get("with_tokenizer") is not True:
            raise WrongInput(
                f"`run` (={folder}) must have pages that show the text of tokens; got pages that show ids; "
                "run `distsae features` again where the language model is at hand"
            )
        self.settings: dict[str, Any] = settings
        self.digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self._paths = sorted((folder / "parquet").glob("features-*.parquet"))
        self._file: NDArray[np.int64] = np.empty(0, np.int64)
        self.feature: NDArray[np.int64] = np.empty(0, np.int64)
        self.density: NDArray[np.float64] = np.empty(0, np.float64)
        tables = [self._table(path, ("feature", "density")) for path in self._paths]
        try:
            self.feature = np.concatenate([table["feature"].to_numpy() for table in tables]).astype(np.int64)
            self.density = np.concatenate([table["density"].to_numpy() for table in tables]).astype(np.float64)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise TornData(f"{folder / 'parquet'} is damaged: {_first_line(error)}") from None
        self._file = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
        if not np.array_equal(self.feature, np.arange(len(self.feature))) or not np.isfinite(self.density).all():
            raise TornData(f"{folder / 'parquet'} is damaged: its features must be 0, 1, 2 ..., each with a density")

    def read(self, features: Sequence[int]) -> Iterator[FeatureContexts]:
        """Yields the contexts of features, in ascending order; one file at a time is read.

        Raises:
            TornData: a file is damaged.
        """
        wanted = np.unique(np.asarray(features, np.int64))
        for number in np.unique(self._file[wanted]).tolist():
            path = self._paths[number]
            first = int(np.searchsorted(self._file, number))
            table = self._table(path, _READ).take(wanted[self._file[wanted] == number] - first)
            for place in range(table.num_rows):
                (row,) = table.slice(place, 1).to_pylist()
                yield _feature_contexts(row, path)

    def file_of(self, features: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the number of the file that each feature is in."""
        return self._file[features]

    @property
    def files(self) -> int:
        """Number of files."""
        return len(self._paths)

    def _table(self, path: Path, columns: Sequence[str]) -> Any:  # noqa: ANN401  (pyarrow has no types)
        with open(open_regular(path), "rb") as opened:  # noqa: PTH123  (a descriptor, not a path)
            try:
                file = pq.ParquetFile(opened)
                for name in columns:
                    place = file.schema_arrow.get_field_index(name)
                    if place < 0 or not file.schema_arrow.field(place).type.equals(SCHEMA.field(name).type):
                        raise TornData(f"{path} must have the column {name} as `distsae features` writes it")
                return file.read(columns=list(columns))
            except (pa.ArrowException, OSError) as error:
                raise TornData(f"{path} is damaged: {_first_line(error)}") from None


def _feature_contexts(row: dict[str, Any], path: Path) -> FeatureContexts:
    try:
        return FeatureContexts(
            feature=row["feature"],
            density=row["density"],
            top=tuple(map(_window, row["top_contexts"])),
            sampled=tuple(map(_window, row["sampled_contexts"])),
            related=frozenset(entry["feature"] for entry in (*row["nearest"], *row["correlated"])),
        )
    except (TypeError, ValueError) as error:
        raise TornData(f"{path} is damaged: feature {row['feature']}: {_first_line(error)}") from None


def _window(context: dict[str, Any]) -> TokenWindow:
    tokens, activations = tuple(context["tokens"]), tuple(context["activations"])
    if len(tokens) != len(activations) or None in tokens or not all(map(math.isfinite, activations)):
        raise ValueError("a context must have a finite activation for each token")
    if not any(value > 0 for value in activations):
        raise ValueError("a context of a feature must have a token on which it fires")
    return TokenWindow(int(context["context_id"]), tokens, activations, int(context["first_position"]))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
