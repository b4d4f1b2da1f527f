"""What a page shows of one feature, whatever format it is written in."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FeaturePage", "ShownContext"]


@dataclass(frozen=True, kw_only=True)
class ShownContext:
    """The part of a context that is shown: some tokens around the strongest one.

    Args:
        context_id: number of the context in its corpus.
        document_id: number of the strongest token's document in its corpus.
        first: position of the first token that is shown.
        position: position of the strongest token.
        token_ids: tokens that are shown.
        acts: activation of the feature on each of them; 0 where it does not fire.
    """

    context_id: int
    document_id: int
    first: int
    position: int
    token_ids: tuple[int, ...]
    acts: tuple[float, ...]

    @property
    def peak(self) -> float:
        """Activation on the strongest token."""
        return self.acts[self.position - self.first]

    @property
    def peak_token(self) -> int:
        """The strongest token."""
        return self.token_ids[self.position - self.first]


@dataclass(frozen=True, kw_only=True)
class FeaturePage:
    """Everything that is known of a feature.

    Args:
        feature: its number.
        rows: rows of the pass.
        count: rows on which it fires.
        mean: mean of its activations; 0 if it never fires.
        bins: bin and count of its histogram (`activation_histogram.py`), ascending.
        top: contexts in which it fires most strongly, the strongest first.
        sampled: contexts from all over the range of its activations, the strongest first.
        promoted: token and direct effect of the tokens that it promotes most.
        suppressed: the same of those that it suppresses most.
        logit_heights: histogram of its effects on all tokens; empty without a language model, and unless a format
            needs it.
        logit_values: middles of the bins.
        nearest: feature and cosine of the nearest decoder rows.
        correlated: feature, correlation and common rows of those that fire together with it.
        alignment: dimension and value of the largest elements of its decoder row.
        decoder_l1: sum of the absolute elements of its decoder row.
    """

    feature: int
    rows: int
    count: int
    mean: float
    bins: tuple[tuple[int, int], ...]
    top: tuple[ShownContext, ...]
    sampled: tuple[ShownContext, ...]
    promoted: tuple[tuple[int, float], ...]
    suppressed: tuple[tuple[int, float], ...]
    logit_heights: tuple[int, ...]
    logit_values: tuple[float, ...]
    nearest: tuple[tuple[int, float], ...]
    correlated: tuple[tuple[int, float, int], ...]
    alignment: tuple[tuple[int, float], ...]
    decoder_l1: float

    @property
    def density(self) -> float:
        """Matches per row."""
        return self.count / self.rows if self.rows else 0.0

    @property
    def largest(self) -> float:
        """Largest activation; 0 if it never fires."""
        return self.top[0].peak if self.top else 0.0
