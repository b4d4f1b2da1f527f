"""Who writes which rows into which file: one plan, worked out alike on every rank from what all of them hold.

Replicated tensors are written once, by rank 0. Data ranks hold the same rows of a feature rank and share the work of
writing them. A plan that does not cover every row of every tensor exactly once is refused before a byte is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distsae.checkpoint.manifest import Piece, TensorRecord
from distsae.checkpoint.state import DTYPES, TensorFacts
from distsae.errors import WrongInput

__all__ = ["REPLICATED", "Holding", "plan_tensors", "shard_file", "share"]

REPLICATED = "replicated.safetensors"


@dataclass(frozen=True)
class Holding:
    """What one rank holds: its feature rank and its view of every tensor."""

    feature: int
    tensors: dict[str, TensorFacts]


def shard_file(feature: int, features: int, data: int, datas: int) -> str:
    """Returns the name of the file with the rows that data rank `data` of a feature rank writes."""
    part = f".data-{data:05d}-of-{datas:05d}" if datas > 1 else ""
    return f"feature-{feature:05d}-of-{features:05d}{part}.safetensors"


def share(rows: tuple[int, int], data: int, datas: int) -> tuple[int, int]:
    """Returns which of the rows `[start, stop)` of a feature rank its data rank `data` of `datas` writes."""
    start, stop = rows
    return start + (stop - start) * data // datas, start + (stop - start) * (data + 1) // datas


def plan_tensors(holdings: Sequence[Holding], features: int, datas: int) -> dict[str, TensorRecord]:
    """Returns where every row goes.

    Args:
        holdings: what each rank holds.
        features: number of feature ranks.
        datas: number of data ranks of each.

    Raises:
        WrongInput: ranks disagree on a tensor, its shards leave a gap or overlap, or its dtype cannot be stored.
    """
    plan: dict[str, TensorRecord] = {}
    names = sorted(set().union(*(holding.tensors for holding in holdings)))
    for name in names:
        views = [_view(name, rank, holding) for rank, holding in enumerate(holdings)]
        first = views[0]
        for rank, view in enumerate(views):
            if (view.dtype, view.shape, view.sharded) != (first.dtype, first.shape, first.sharded):
                raise _refusal(
                    name,
                    f"be the same tensor on every rank; got {_words(first)} on rank 0 and "
                    f"{_words(view)} on rank {rank}",
                )
        if first.dtype not in DTYPES:
            raise _refusal(name, f"have one of the dtypes {', '.join(DTYPES)}; got {first.dtype}")
        if first.sharded:
            ranges = _ranges(name, [holding.feature for holding in holdings], views)
            _check_cover(name, first.shape[0], sorted(ranges.values()))
            pieces = [
                Piece(shard_file(feature, features, data, datas), *share(rows, data, datas))
                for feature, rows in ranges.items()
                for data in range(datas)
            ]
            pieces = sorted((p for p in pieces if p.start < p.stop), key=lambda piece: piece.start)
        else:
            pieces = [Piece(REPLICATED, *first.rows)]
        plan[name] = TensorRecord(first.dtype, first.shape, tuple(pieces))
    return plan


def _view(name: str, rank: int, holding: Holding) -> TensorFacts:
    if name not in holding.tensors:
        raise _refusal(name, f"be on every rank; got none on rank {rank}")
    return holding.tensors[name]


def _ranges(name: str, features: Sequence[int], views: Sequence[TensorFacts]) -> dict[int, tuple[int, int]]:
    """The rows of each feature rank, which all its data ranks must agree on."""
    ranges: dict[int, tuple[int, int]] = {}
    for rank, (feature, view) in enumerate(zip(features, views, strict=True)):
        if ranges.setdefault(feature, view.rows) != view.rows:
            raise _refusal(
                name,
                f"have the same rows on every data rank of feature rank {feature}; got "
                f"{ranges[feature]} and, on rank {rank}, {view.rows}",
            )
    return ranges


def _check_cover(name: str, total: int, ranges: Sequence[tuple[int, int]]) -> None:
    covered = 0
    for start, stop in ranges:
        if start != covered and start < stop:
            break
        covered = max(covered, stop)
    else:
        if covered == total:
            return
    raise _refusal(name, f"have each of its {total} rows on one feature rank; got the rows {list(ranges)}")


def _words(facts: TensorFacts) -> str:
    return f"{facts.dtype} {list(facts.shape)} {'sharded' if facts.sharded else 'replicated'}"


def _refusal(name: str, must: str) -> WrongInput:
    return WrongInput(f"tensor `{name}` must {must}; pass `save` the same state on every rank")
