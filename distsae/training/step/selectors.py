"""The selectors of a step by their purpose: all of them select from the same pass over the encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distsae.allocation import Chunks, Matches, Placement, Selector, select

__all__ = ["Selected", "Selectors"]


@dataclass(frozen=True)
class Selected:
    """The matches that the selectors of a step selected on this rank.

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
    """The selectors that select from the same scores.

    Args:
        main: selector of the allocation rule, whose matches make the reconstruction.
        auxiliary: selector of the auxiliary loss, with its own budget and set of features; None without one.
        observers: further selectors, whose matches train nothing.
    """

    main: Selector
    auxiliary: Selector | None = None
    observers: tuple[Selector, ...] = ()

    def wrapped(self, wrap: Callable[[Selector], Selector]) -> Selectors:
        """Returns selectors for the same purposes: what `wrap` returns for each of these.

        Args:
            wrap: function that is called for the main selector first, then the auxiliary one, then the observers.
        """
        main = wrap(self.main)
        auxiliary = None if self.auxiliary is None else wrap(self.auxiliary)
        return Selectors(main, auxiliary, tuple(wrap(observer) for observer in self.observers))

    def select(self, chunks: Chunks, placement: Placement, tokens: int) -> Selected:
        """Runs all selectors over one pass, or another one if a lower bound proves too high. Collective.

        Args:
            chunks: function that starts a pass over the scores of the batch.
            placement: position of this rank's scores in the global batch.
            tokens: number of tokens on this rank.

        Raises:
            NonFiniteScores: on every rank, if any score of the batch is not finite.
        """
        auxiliary = [] if self.auxiliary is None else [self.auxiliary]
        found = select([self.main, *auxiliary, *self.observers], chunks, placement, tokens)
        first_observer = 1 + len(auxiliary)
        return Selected(found[0], found[1] if auxiliary else None, tuple(found[first_observer:]))
