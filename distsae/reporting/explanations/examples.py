"""Which contexts of a feature are shown, on which its explanation is scored, and with which marks.

Everything is a function of the pages, the settings and the seed, whatever else is explained, and in whatever order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from distsae.reporting.explanations.config import ExplainConfig
from distsae.reporting.explanations.feature_contexts import FeatureContexts, TokenWindow
from distsae.reporting.explanations.firing_check import Firings
from distsae.seeds import numpy_generator

__all__ = ["FEWEST_CONTEXTS", "Example", "FeatureExamples", "OtherContexts", "examples_of"]

_LOOKED_AT = 4
"""Candidates that are looked at for each context that is wanted; features of density 0.01 fire in one of seven."""

FEWEST_CONTEXTS = 4
"""Fewest contexts of a feature that is explained: two to show, two to score on."""


@dataclass(frozen=True, slots=True)
class Example:
    """A context to judge.

    Args:
        tokens: texts of its tokens.
        marked: places of the tokens that are marked; empty in detection.
        is_right: whether the feature fires in it, in detection; whether the marks are where it fires, in fuzzing.
    """

    tokens: tuple[str, ...]
    marked: frozenset[int]
    is_right: bool


@dataclass(frozen=True, slots=True)
class FeatureExamples:
    """What is sent about a feature.

    Args:
        feature: its number.
        largest: its largest activation.
        shown: contexts that the explanation is made from.
        detection: examples of detection, in the order in which they are asked.
        fuzzing: examples of fuzzing.
        other_firing: upper estimate of how many of the non-activating contexts the feature fires in: they are contexts
            in which no page says that it does. It is the sum of their tokens times its density; 0 if they were looked
            at on the store.
    """

    feature: int
    largest: float
    shown: tuple[TokenWindow, ...]
    detection: tuple[Example, ...]
    fuzzing: tuple[Example, ...]
    other_firing: float


class OtherContexts:
    """Contexts of many features, from which the non-activating contexts of each feature are drawn.

    Args:
        pool: features with their contexts.
    """

    def __init__(self, pool: Sequence[FeatureContexts]) -> None:
        self._pool = tuple(pool)

    def candidates(self, own: FeatureContexts, seed: int) -> Iterator[TokenWindow]:
        """Yields contexts of other features in random order, each of another feature and another context.

        Those that are contexts of `own` as well, and those of features that are related to it, are left out.

        Args:
            own: feature that is explained.
            seed: seed of the explanations.
        """
        generator = numpy_generator(seed, "explanations", own.feature, "non-activating")
        taken = set(own.context_ids)
        for place in generator.permutation(len(self._pool)).tolist():
            other = self._pool[place]
            if other.feature == own.feature or other.feature in own.related or own.feature in other.related:
                continue
            windows = [window for window in (*other.top, *other.sampled) if window.context_id not in taken]
            if windows:
                window = windows[int(generator.integers(len(windows)))]
                taken.add(window.context_id)
                yield window

    def drawn(self, own: FeatureContexts, count: int, seed: int, firings: Firings | None = None) -> list[TokenWindow]:
        """Returns the first candidates; fewer if there are no more.

        Args:
            own: feature that is explained.
            count: number of contexts.
            seed: seed of the explanations.
            firings: where the feature fires in the first `looked_at(count)` candidates; those in which it does are
                left out, and no others are looked at. None if that is not known.
        """
        if firings is None:
            return list(islice(self.candidates(own, seed), count))
        looked_at = islice(self.candidates(own, seed), self.looked_at(count))
        return list(islice((window for window in looked_at if not firings.in_window(own.feature, window)), count))

    @staticmethod
    def looked_at(count: int) -> int:
        """Returns how many candidates are looked at to find `count` in which a feature does not fire."""
        return _LOOKED_AT * count


def examples_of(
    own: FeatureContexts, others: OtherContexts, config: ExplainConfig, firings: Firings | None = None
) -> FeatureExamples | None:
    """Returns what is sent about a feature; None if it has too few contexts, or others have.

    The strongest contexts are shown. Scored are the sampled ones that are not shown and, if these are too few, the
    strongest ones that are not.

    Args:
        own: the feature's contexts.
        others: contexts that non-activating ones are drawn from.
        config: how many are shown and scored.
        firings: where the feature fires in them; None if that is not known.
    """
    top, sampled = _each_once(own.top), _each_once(own.sampled)
    known = len(own.context_ids)
    if known < FEWEST_CONTEXTS:
        return None
    shown = top[: min(config.shown_contexts, known // 2)]
    seen = {window.context_id for window in shown}
    scored = [window for window in _each_once((*sampled, *top)) if window.context_id not in seen]
    scored = scored[: config.scored_contexts]
    others_windows = others.drawn(own, len(scored), config.seed, firings)
    if not scored or not others_windows:
        return None
    plain = [Example(window.tokens, frozenset(), True) for window in scored]
    plain += [Example(window.tokens, frozenset(), False) for window in others_windows]
    marked = [Example(window.tokens, window.firing, True) for window in scored]
    marked += _wrongly_marked(own.feature, scored, others_windows, config)
    tokens = sum(len(window.tokens) for window in others_windows)
    return FeatureExamples(
        feature=own.feature,
        largest=own.largest,
        shown=tuple(shown),
        detection=_mixed(plain, own.feature, "detection", config.seed),
        fuzzing=_mixed(marked, own.feature, "fuzzing", config.seed),
        other_firing=min(tokens * own.density, float(len(others_windows))) if firings is None else 0.0,
    )


def _each_once(windows: Sequence[TokenWindow]) -> list[TokenWindow]:
    """Returns the windows without those of a context that came before."""
    first: dict[int, TokenWindow] = {}
    for window in windows:
        first.setdefault(window.context_id, window)
    return list(first.values())


def _wrongly_marked(
    feature: int, scored: Sequence[TokenWindow], others: Sequence[TokenWindow], config: ExplainConfig
) -> list[Example]:
    """Returns examples with wrong marks, as many on each as the right ones have on average, rounded up."""
    generator = numpy_generator(config.seed, "explanations", feature, "wrong marks")
    count = math.ceil(sum(len(window.firing) for window in scored) / len(scored))
    made: list[Example] = []
    for window in others if config.wrong_marks == "non_activating" else scored:
        firing = frozenset() if config.wrong_marks == "non_activating" else window.firing
        free = [place for place in range(len(window.tokens)) if place not in firing]
        if free:
            chosen = generator.choice(np.asarray(free), min(count, len(free)), replace=False)
            made.append(Example(window.tokens, frozenset(chosen.tolist()), False))
    return made


def _mixed(examples: Sequence[Example], feature: int, name: str, seed: int) -> tuple[Example, ...]:
    order = numpy_generator(seed, "explanations", feature, name).permutation(len(examples))
    return tuple(examples[place] for place in order.tolist())
