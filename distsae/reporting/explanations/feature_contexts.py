"""What a feature's explanation is made from: its contexts, as its page shows them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FeatureContexts", "TokenWindow"]


@dataclass(frozen=True, slots=True)
class TokenWindow:
    """Some tokens of a context around the strongest one of a feature.

    Args:
        context_id: number of the context in its corpus.
        tokens: texts of the tokens.
        activations: the feature's activation on each; 0 where it does not fire.
        first_position: position of the first token in the context.
    """

    context_id: int
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    first_position: int = 0

    @property
    def firing(self) -> frozenset[int]:
        """Places of the tokens on which the feature fires."""
        return frozenset(place for place, value in enumerate(self.activations) if value > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureContexts:
    """The contexts of one feature.

    Args:
        feature: its number.
        density: share of rows on which it fires.
        top: contexts in which it fires most strongly, the strongest first.
        sampled: contexts from all over the range of its activations.
        related: features that its page names as near it, or as firing together with it.
    """

    feature: int
    density: float
    top: tuple[TokenWindow, ...]
    sampled: tuple[TokenWindow, ...]
    related: frozenset[int]

    @property
    def context_ids(self) -> frozenset[int]:
        """Numbers of the contexts that the page shows."""
        return frozenset(window.context_id for window in (*self.top, *self.sampled))

    @property
    def largest(self) -> float:
        """The largest activation that is shown; 0 without contexts."""
        return max((max(window.activations, default=0.0) for window in self.top), default=0.0)
