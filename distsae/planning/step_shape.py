"""The work of a step of Mutual Choice on a rank, and the bytes that it receives: formulas of sizes, without a machine.

The bytes are those that `GroupCollective` counts; `tests/benchmarks/test_scaling.py` holds the formulas against two
real ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HISTOGRAM", "StepShape", "all_reduce_bytes", "bytes_received", "work"]

HISTOGRAM = 4099
"""Numbers of the histogram that finds the cut of a selection."""


@dataclass(frozen=True, kw_only=True)
class StepShape:
    """A step on a mesh.

    Args:
        d_in: width of the activations.
        d_sae: features over all ranks.
        tokens: of the global batch.
        k: mean matches per token.
        data: ranks that share the tokens.
        feature: ranks that share the features.
        k_aux: mean matches per token of the auxiliary reconstruction; 0 without one.
    """

    d_in: int
    d_sae: int
    tokens: int
    k: float
    data: int = 1
    feature: int = 1
    k_aux: float = 0

    @property
    def ranks(self) -> int:
        """All processes."""
        return self.data * self.feature

    @property
    def own_tokens(self) -> int:
        """Tokens of a rank."""
        return self.tokens // self.data

    @property
    def own_features(self) -> int:
        """Features of the first rank."""
        return -(-self.d_sae // self.feature)

    @property
    def own_matches(self) -> float:
        """Matches of a rank, auxiliary ones too, if they are spread evenly."""
        return (self.k + self.k_aux) * self.own_tokens / self.feature

    @property
    def reconstructions(self) -> int:
        """One, or two with the auxiliary one."""
        return 2 if self.k_aux else 1


def bytes_received(shape: StepShape, matches: float | None = None) -> dict[str, float]:
    """Returns the bytes that reach a rank in a step, by exchange; the selection with one histogram and no candidates.

    Args:
        shape: the step.
        matches: most matches of a rank among those that hold the same features, those of both reconstructions
            together; by default spread evenly.
    """
    matches = shape.own_matches if matches is None else matches
    vector, some = 4 * shape.d_in, shape.reconstructions
    counted = 4 if 2 * max(shape.k, shape.k_aux) * shape.tokens * shape.ranks < 1 << 31 else 8
    factors = (1 + some) * shape.own_tokens * vector + 16 * matches + 8 * some
    return {
        "selection": some * all_reduce_bytes(counted * HISTOGRAM, shape.ranks),
        "reconstruction": some * all_reduce_bytes(shape.own_tokens * vector, shape.feature),
        "factors": (shape.data - 1) * factors,
        "firings": all_reduce_bytes(8 * shape.own_features, shape.data),
        "numbers": all_reduce_bytes(8 * (shape.d_in + 1), shape.feature)
        + all_reduce_bytes(16 + 8 * (some - 1), shape.data),
    }


def work(shape: StepShape) -> dict[str, float]:
    """Returns the work of a rank: numbers multiplied in the product, scores, numbers of matched rows, weights."""
    return {
        "product": shape.own_tokens * shape.own_features * shape.d_in,
        "scores": shape.own_tokens * shape.own_features,
        # Rescored candidates, some twice as many as matches; decoded rows; dots with two vectors each.
        "matched": shape.own_matches * shape.d_in * (2 * 2 + 1 + 2),
        # Two row sums, of the matches of all data ranks.
        "summed": shape.own_matches * shape.data * shape.d_in * 2,
        "weights": 2 * shape.own_features * shape.d_in,
    }


def all_reduce_bytes(size: float, ranks: int) -> float:
    """Returns the bytes that reach a rank in an all-reduce by a ring."""
    return 2 * (ranks - 1) / ranks * size
