"""What a step exchanges: its collectives, the ranks that take part, how many there are, and the bytes that a rank gets.

The bytes are those that `GroupCollective` counts: what reaches a rank from the others by a ring. Tests hold formulas
against steps of real ranks, call by call and byte by byte, but for two selections whose length depends on the scores:
that of Mutual Choice is taken with one histogram and no candidates, which is its least, and that of Token Choice with
half as many candidates again as matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from distsae.planning.step_shape import StepShape
from distsae.training.engines.plain import block_rows
from distsae.training.engines.row_division import SENT_BYTES, rows_of_a_rank

__all__ = ["HISTOGRAM", "Axis", "Exchange", "all_reduce_bytes", "bytes_received", "exchanges", "most_selection_bytes"]

HISTOGRAM = 4099
"""Numbers of the histogram that finds the cut of a selection."""

Axis = Literal["world", "feature", "data"]
"""Group of ranks: all of them, those with the same tokens, or those with the same features."""

_FEW = 4096
"""Keys that the last round of a selection may gather on a rank, those of all ranks together."""

_CANDIDATES_PER_MATCH = 1.5
"""Candidates of Token Choice that feature ranks gather, for each match."""

_SLACK = 1.25
"""Length of a message of candidates, over what it holds."""


@dataclass(frozen=True)
class Exchange:
    """The collectives of a step that serve one purpose.

    Args:
        name: purpose.
        axis: ranks that take part.
        kind: whether numbers are summed or gathered.
        calls: number of collectives in a step.
        received: bytes that reach a rank in them, together.
    """

    name: str
    axis: Axis
    kind: Literal["all_reduce", "all_gather"]
    calls: int
    received: float

    def ranks(self, shape: StepShape) -> int:
        """Returns the number of ranks that take part."""
        return {"world": shape.ranks, "feature": shape.feature, "data": shape.data}[self.axis]


def exchanges(shape: StepShape, matches: float | None = None) -> list[Exchange]:
    """Returns the exchanges of a step that happen on its mesh.

    Args:
        shape: the step.
        matches: most matches of a rank among those that hold the same features, those of both reconstructions
            together; by default spread evenly.
    """
    return [found for found in _all(shape, matches) if found.ranks(shape) > 1]


def bytes_received(shape: StepShape, matches: float | None = None) -> dict[str, float]:
    """Returns the bytes that reach a rank in a step, by purpose; see `exchanges`."""
    found: dict[str, float] = {}
    for exchange in exchanges(shape, matches):
        found[exchange.name] = found.get(exchange.name, 0) + exchange.received
    return found


def all_reduce_bytes(size: float, ranks: int) -> float:
    """Returns the bytes that reach a rank in an all-reduce by a ring."""
    return 2 * (ranks - 1) / ranks * size


def most_selection_bytes(shape: StepShape) -> float:
    """Returns the most that one selection of Mutual Choice receives while its forecast holds and there are no ties:
    two histograms and a gather of what is left.
    """  # noqa: D205
    return all_reduce_bytes((8 + 8) * HISTOGRAM, shape.ranks) + 8 * _FEW


def _all(shape: StepShape, matches: float | None) -> Iterator[Exchange]:
    matches = shape.own_matches if matches is None else matches
    vector, some = 4 * shape.d_in, shape.reconstructions
    yield from _selections(shape)
    reconstructed = some * all_reduce_bytes(shape.own_tokens * vector, shape.feature)
    yield Exchange("reconstruction", "feature", "all_reduce", 1, reconstructed)
    if shape.engine == "plain":
        # Centred rows and gradients of the reconstructions; of each match token, feature, score and dot; their numbers.
        factors = (1 + some) * shape.own_tokens * vector + 16 * matches + 8 * some
        yield Exchange("gradients", "data", "all_gather", 1 + 3 * some, (shape.data - 1) * factors)
        if shape.divide_moments:
            yield _updated_rows(shape)
    else:
        yield from _zero(shape)
    yield Exchange("firings", "data", "all_reduce", 1, all_reduce_bytes(8 * shape.own_features, shape.data))
    if shape.allocation == "feature_choice":
        yield Exchange("prices", "data", "all_reduce", 1, all_reduce_bytes(8 * shape.own_features, shape.data))
    losses = all_reduce_bytes(16 + 8 * (some - 1), shape.data)
    yield Exchange("losses", "data", "all_reduce", some, losses)
    yield Exchange("norm", "feature", "all_reduce", 1, all_reduce_bytes(8 * (shape.d_in + 1), shape.feature))


def _selections(shape: StepShape) -> Iterator[Exchange]:
    """Yields the exchanges of candidates. Feature Choice is Mutual Choice among ratios of score to price."""
    ranks = shape.ranks
    counted = 4 if 2 * max(shape.k, shape.k_aux) * shape.tokens * ranks < 1 << 31 else 8
    mutual = shape.reconstructions - (shape.allocation == "token_choice")
    if mutual:
        histograms = mutual * all_reduce_bytes(counted * HISTOGRAM, ranks)
        yield Exchange("selection", "world", "all_reduce", 2 * mutual, histograms)
    if shape.allocation == "token_choice":
        bounds = all_reduce_bytes(8 * shape.own_tokens, shape.feature)
        yield Exchange("selection", "feature", "all_reduce", 1, bounds)
        held = shape.own_tokens * (1 + _CANDIDATES_PER_MATCH * shape.k / shape.feature)
        message = 4 * (1 + _SLACK * held)
        yield Exchange("selection", "feature", "all_gather", 1, (shape.feature - 1) * message)
        yield Exchange("selection", "world", "all_gather", 1, 16 * (ranks - 1))


def _updated_rows(shape: StepShape) -> Exchange:
    """Returns what the plain engine sends if data ranks divide the update: new rows, and sums of each rank's blocks."""
    numbers = (shape.d_in, shape.d_in, 1)  # of a feature: W_enc, W_dec, b_enc
    block = 1 if shape.gpu else block_rows(shape.d_in)
    own = rows_of_a_rank(shape.own_features, block, shape.data)
    calls = sum(-(-own // max(SENT_BYTES[shape.gpu] // (4 * row), 1)) for row in numbers)
    # A GPU updates all rows in one operation, and only the squares of its gradients are added up in order.
    sums = [4 * own] if shape.gpu else [4 * shape.d_in * (own // block), 8 * (own // block)]
    size = 4 * own * sum(numbers) + sum(sums)
    return Exchange("updated rows", "data", "all_gather", calls + len(sums), (shape.data - 1) * size)


def _zero(shape: StepShape) -> Iterator[Exchange]:
    """Yields what DeepSpeed sends over the data axis: gradients as matrices, and the rows that each rank updated."""
    ranks, matrices = shape.data, 4 * (2 * shape.own_features * shape.d_in + shape.own_features + shape.d_in)
    share = (ranks - 1) / ranks * matrices
    yield Exchange("gradients", "data", "all_reduce", 1, share if shape.zero_stage == 2 else 2 * share)
    yield Exchange("updated rows", "data", "all_gather", 1, share)
