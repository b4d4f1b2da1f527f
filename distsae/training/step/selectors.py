"""The selectors of a step, which share one pass over the encoder: what each of them is for, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distsae.allocation import Chunks, Matches, Placement, Selector, select

__all__ = ["Selected", "Selectors"]


@dataclass(frozen=True)
class Selected:
    """What the selectors of a step selected on this rank.

    Args:
        main: matches of the allocation rule, sorted by feature, in local indices.
        auxiliary: matches of the auxiliary loss; None without one.
        observed: matches of each observer.
    """

    main: Matches
    auxiliary: Matches | None = None
    observed: tuple[Matches, ...] = ()


@dataclass(frozen=True)
class Selectors:
    """The rules that select from the same scores.

    Args:
        main: the allocation rule, whose matches are the reconstruction.
        auxiliary: selector of the auxiliary loss, with a budget and members of its own; None without one.
        observers: further rules, whose matches train nothing.
    """

    main: Selector
    auxiliary: Selector | None = None
    observers: tuple[Selector, ...] = ()

    def wrapped(self, wrap: Callable[[Selector], Selector]) -> Selectors:
        """Returns the same selectors, each in what `wrap` makes of it; the main one is wrapped first."""
        main = wrap(self.main)
        auxiliary = None if self.auxiliary is None else wrap(self.auxiliary)
        return Selectors(main, auxiliary, tuple(wrap(observer) for observer in self.observers))

    def select(self, chunks: Chunks, placement: Placement, tokens: int) -> Selected:
        """Runs all selectors over one pass of `chunks()`, again if a lower bound proves too high. Collective.

        Args:
            chunks: gives the batch's blocks of scores.
            placement: where these scores lie in the global batch.
            tokens: tokens of this rank.

        Raises:
            NonFiniteScores: on every rank, if any score of the batch is not finite.
        """
        auxiliary = [] if self.auxiliary is None else [self.auxiliary]
        found = select([self.main, *auxiliary, *self.observers], chunks, placement, tokens)
        first_observer = 1 + len(auxiliary)
        return Selected(found[0], found[1] if auxiliary else None, tuple(found[first_observer:]))
