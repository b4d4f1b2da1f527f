"""What a pass over one part of the rows leaves behind, as arrays by feature, and the file that keeps it.

Its size grows with the matches of the part and the contexts that are kept, never with rows times features. Arrays are
sorted by feature and have an index of where each feature begins, so that whoever finishes a few features reads only
theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from distsae.checked_files.safetensors_file import DTYPES, SafetensorsFile
from distsae.durable import as_new_files_are, replacing
from distsae.errors import TornData
from distsae.reporting.features.firing_contexts import FiringContexts

__all__ = ["FeatureSlice", "PartResult", "read_pairs", "read_slice"]


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """The result of a part; or of several, once they are added up.

    Args:
        rows: rows that were encoded.
        count: matches of each feature, int64 `[d_sae]`.
        total: sum of the activations of each feature, fp64 `[d_sae]`.
        bin_feature: feature of each used bin of the histograms, ascending, int64 `[used]`.
        bin: number of each used bin, int64 `[used]`.
        bin_count: activations in it, int64 `[used]`.
        kept: top and sampled contexts of each feature, by feature, then context.
        sample_rows: rows that are in the sample for co-activation.
        pair_row: row of each match in this sample, a number that no other row of the pass has, int64 `[pairs]`.
        pair_feature: feature of each of these matches, int64 `[pairs]`.
    """

    rows: int
    count: NDArray[np.int64]
    total: NDArray[np.float64]
    bin_feature: NDArray[np.int64]
    bin: NDArray[np.int64]
    bin_count: NDArray[np.int64]
    kept: FiringContexts
    sample_rows: int
    pair_row: NDArray[np.int64]
    pair_feature: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Writes the file in one step, over what was there."""
        kept, features = self.kept, np.arange(len(self.count) + 1)
        arrays: dict[str, NDArray[np.generic]] = {
            "rows": np.asarray([self.rows, self.sample_rows]),
            "count": self.count,
            "total": self.total,
            "bin_start": np.searchsorted(self.bin_feature, features),
            "bin": self.bin.astype(np.int32),
            "bin_count": self.bin_count,
            "kept_start": np.searchsorted(kept.feature, features),
            "context": kept.context,
            "context_id": kept.context_id,
            "peak": kept.peak,
            "position": kept.position.astype(np.int32),
            "document_id": kept.document_id,
            "act_start": kept.start,
            "act_position": kept.act_position.astype(np.int32),
            "act": kept.act,
            "pair_row": self.pair_row,
            "pair_feature": self.pair_feature.astype(np.int32),
        }
        with replacing(path, path.with_name(f".{path.name}.tmp")) as temporary:
            tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
            save_file(tensors, temporary)
            as_new_files_are(temporary)


@dataclass(frozen=True, kw_only=True)
class FeatureSlice:
    """What all parts together know of the features `first, first + 1, ...`; arrays are those of `PartResult`.

    Args:
        first: number of the first feature.
        rows: rows of the pass.
        count: matches of each feature, int64 `[features]`.
        total: sum of its activations, fp64 `[features]`.
        bin_feature: feature of each used bin, int64 `[used]`; several entries may be of one bin.
        bin: number of the bin, int64 `[used]`.
        bin_count: activations in it, int64 `[used]`.
        kept: contexts that the parts have kept.
    """

    first: int
    rows: int
    count: NDArray[np.int64]
    total: NDArray[np.float64]
    bin_feature: NDArray[np.int64]
    bin: NDArray[np.int64]
    bin_count: NDArray[np.int64]
    kept: FiringContexts


def read_slice(paths: Sequence[Path], first: int, last: int) -> FeatureSlice:
    """Adds up what the files of all parts know of the features `[first, last)`, in the order of the parts.

    Raises:
        TornData: a file is missing or damaged; the text names it.
    """
    slices = [_slice_of(path, first, last) for path in paths]
    return FeatureSlice(
        first=first,
        rows=sum(part.rows for part in slices),
        count=np.sum([part.count for part in slices], axis=0),
        total=np.sum([part.total for part in slices], axis=0),
        bin_feature=np.concatenate([part.bin_feature for part in slices]),
        bin=np.concatenate([part.bin for part in slices]),
        bin_count=np.concatenate([part.bin_count for part in slices]),
        kept=FiringContexts.joined([part.kept for part in slices]),
    )


def read_pairs(paths: Sequence[Path]) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Returns the rows of the sample for co-activation, and row and feature of each match in it.

    Raises:
        TornData: a file is missing or damaged; the text names it.
    """
    rows = 0
    row, feature = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for path in paths:
        with _opened(path) as file:
            count = int(file.tensor("rows")[1])
            if count:
                rows += count
                row.append(file.tensor("pair_row").numpy())
                feature.append(file.tensor("pair_feature").long().numpy())
    return rows, np.concatenate(row), np.concatenate(feature)


def _opened(path: Path) -> SafetensorsFile:
    try:
        return SafetensorsFile(path)
    except FileNotFoundError:
        raise TornData(f"{path} is missing; remove its folder, and run the same command again") from None


def _slice_of(path: Path, first: int, last: int) -> FeatureSlice:
    with _opened(path) as file:

        def read(name: str, start: int, stop: int) -> NDArray[np.generic]:
            into = torch.empty(int(stop - start), dtype=DTYPES[file.entries[name].dtype])
            file.read_rows(name, int(start), into)
            array: NDArray[np.generic] = into.numpy()
            return array

        def integers(name: str, start: int, stop: int) -> NDArray[np.int64]:
            return read(name, start, stop).astype(np.int64)

        bins = integers("bin_start", first, last + 1)
        pairs = integers("kept_start", first, last + 1)
        start = integers("act_start", pairs[0], pairs[-1] + 1)
        kept = FiringContexts(
            feature=np.repeat(np.arange(first, last), np.diff(pairs)),
            **{
                name: integers(name, pairs[0], pairs[-1])
                for name in ("context", "context_id", "position", "document_id")
            },
            peak=read("peak", pairs[0], pairs[-1]).astype(np.float32),
            start=start - start[0],
            act_position=integers("act_position", start[0], start[-1]),
            act=read("act", start[0], start[-1]).astype(np.float32),
        )
        return FeatureSlice(
            first=first,
            rows=int(file.tensor("rows")[0]),
            count=integers("count", first, last),
            total=read("total", first, last).astype(np.float64),
            bin_feature=np.repeat(np.arange(first, last), np.diff(bins)),
            bin=integers("bin", bins[0], bins[-1]),
            bin_count=integers("bin_count", bins[0], bins[-1]),
            kept=kept,
        )
