"""The plan of a save: which rank writes which rows into which file.

Every rank computes the same plan from the descriptions of what all ranks hold. Replicated tensors are written once, by
rank 0. The data ranks of a feature rank hold the same rows and share the work of writing them; of a tensor that is
divided over them, each writes its own. A plan that does not cover every row of every tensor exactly once is refused
before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distsae.checkpoint.manifest import Piece, TensorRecord
from distsae.checkpoint.state import DTYPES, TensorFacts
from distsae.errors import WrongInput

__all__ = ["REPLICATED", "RankTensors", "plan_tensors", "rows_to_write", "shard_file"]

REPLICATED = "replicated.safetensors"
"""Name of the file of the replicated tensors."""


@dataclass(frozen=True)
class RankTensors:
    """The tensors that one rank holds.

    Args:
        feature: rank on the feature axis.
        data: rank on the data axis.
        tensors: description of each tensor, by name.
    """

    feature: int
    data: int
    tensors: dict[str, TensorFacts]


def shard_file(feature: int, feature_size: int, data: int, data_size: int) -> str:
    """Returns the name of the file that one rank writes its rows into.

    Args:
        feature: rank on the feature axis.
        feature_size: number of ranks on the feature axis.
        data: rank on the data axis.
        data_size: number of ranks on the data axis.
    """
    part = f".data-{data:05d}-of-{data_size:05d}" if data_size > 1 else ""
    return f"feature-{feature:05d}-of-{feature_size:05d}{part}.safetensors"


def rows_to_write(rows: tuple[int, int], data: int, data_size: int) -> tuple[int, int]:
    """Returns the part of the rows `[start, stop)` of a feature rank that one of its data ranks writes.

    Args:
        rows: rows `[start, stop)` that all data ranks of the feature rank hold.
        data: rank on the data axis.
        data_size: number of ranks on the data axis.
    """
    start, stop = rows
    return start + (stop - start) * data // data_size, start + (stop - start) * (data + 1) // data_size


def plan_tensors(ranks: Sequence[RankTensors], feature_size: int, data_size: int) -> dict[str, TensorRecord]:
    """Returns for each tensor, by name, which rows go into which file.

    Args:
        ranks: tensors that each rank holds, in rank order.
        feature_size: number of ranks on the feature axis.
        data_size: number of ranks on the data axis.

    Raises:
        WrongInput: ranks disagree on a tensor, its shards leave a gap or overlap, or its dtype cannot be stored.
    """
    plan: dict[str, TensorRecord] = {}
    names = sorted(set().union(*(rank_tensors.tensors for rank_tensors in ranks)))
    for name in names:
        views = [_view(name, rank, rank_tensors) for rank, rank_tensors in enumerate(ranks)]
        first = views[0]
        for rank, view in enumerate(views):
            if _kind(view) != _kind(first):
                raise _refusal(
                    name,
                    f"be the same tensor on every rank; got {_described(first)} on rank 0 and "
                    f"{_described(view)} on rank {rank}",
                )
        if first.dtype not in DTYPES:
            raise _refusal(name, f"have one of the dtypes {', '.join(DTYPES)}; got {first.dtype}")
        if first.sharded:
            pieces = [
                Piece(shard_file(feature, feature_size, data, data_size), *rows)
                for feature, data, rows in _shares(name, ranks, views, data_size)
            ]
            pieces = [piece for piece in pieces if piece.start < piece.stop]
            pieces.sort(key=lambda piece: piece.start)
        else:
            pieces = [Piece(REPLICATED, *first.rows)]
        plan[name] = TensorRecord(first.dtype, first.shape, tuple(pieces))
    return plan


def _view(name: str, rank: int, rank_tensors: RankTensors) -> TensorFacts:
    if name not in rank_tensors.tensors:
        raise _refusal(name, f"be on every rank; got none on rank {rank}")
    return rank_tensors.tensors[name]


def _kind(facts: TensorFacts) -> tuple[str, tuple[int, ...], bool, bool]:
    """Returns what all ranks must say of a tensor."""
    return facts.dtype, facts.shape, facts.sharded, facts.divided


def _shares(
    name: str, ranks: Sequence[RankTensors], views: Sequence[TensorFacts], data_size: int
) -> list[tuple[int, int, tuple[int, int]]]:
    """Returns `(feature rank, data rank, rows that it writes)` for each rank, after a check that this is every row."""
    total = views[0].shape[0]
    if views[0].divided:
        _check_cover(name, total, sorted(view.rows for view in views), "one rank")
        return [(rank.feature, rank.data, view.rows) for rank, view in zip(ranks, views, strict=True)]
    ranges = _feature_ranges(name, [rank_tensors.feature for rank_tensors in ranks], views)
    _check_cover(name, total, sorted(ranges.values()), "one feature rank")
    return [
        (feature, data, rows_to_write(rows, data, data_size))
        for feature, rows in ranges.items()
        for data in range(data_size)
    ]


def _feature_ranges(name: str, features: Sequence[int], views: Sequence[TensorFacts]) -> dict[int, tuple[int, int]]:
    """Returns the rows of each feature rank, on which all its data ranks must agree."""
    ranges: dict[int, tuple[int, int]] = {}
    for rank, (feature, view) in enumerate(zip(features, views, strict=True)):
        if ranges.setdefault(feature, view.rows) != view.rows:
            raise _refusal(
                name,
                f"have the same rows on every data rank of feature rank {feature}; got "
                f"{ranges[feature]} and, on rank {rank}, {view.rows}",
            )
    return ranges


def _check_cover(name: str, total: int, ranges: Sequence[tuple[int, int]], owner: str) -> None:
    """Refuses sorted ranges that do not cover the rows `[0, total)` exactly once."""
    covered = 0
    for start, stop in ranges:
        if start != covered and start < stop:
            break
        covered = max(covered, stop)
    else:
        if covered == total:
            return
    raise _refusal(name, f"have each of its {total} rows on {owner}; got the rows {list(ranges)}")


def _described(facts: TensorFacts) -> str:
    split = "divided" if facts.divided else "sharded" if facts.sharded else "replicated"
    return f"{facts.dtype} {list(facts.shape)} {split}"


def _refusal(name: str, must: str) -> WrongInput:
    return WrongInput(f"tensor `{name}` must {must}; pass `save` the same state on every rank")
