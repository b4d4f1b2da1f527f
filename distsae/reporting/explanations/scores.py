"""Scores of an explanation: how well contexts can be judged by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from distsae.checked_files import Between

__all__ = ["JudgementCounts"]

_Count = Annotated[int, Between(0)]


@dataclass(frozen=True, kw_only=True)
class JudgementCounts:
    """How many examples were judged rightly and wrongly.

    Args:
        true_positives: right examples that were judged as right.
        false_negatives: right examples that were judged as wrong.
        true_negatives: wrong examples that were judged as wrong.
        false_positives: wrong examples that were judged as right.
        unparsed: examples without a judgement, since the answer was not of the form that was asked for.
    """

    true_positives: _Count = 0
    false_negatives: _Count = 0
    true_negatives: _Count = 0
    false_positives: _Count = 0
    unparsed: _Count = 0

    @staticmethod
    def of(judged: Iterable[tuple[bool, bool | None]]) -> JudgementCounts:
        """Returns the counts of pairs: what is right, and the judgement, None if there is none."""
        pairs = list(judged)
        return JudgementCounts(
            true_positives=pairs.count((True, True)),
            false_negatives=pairs.count((True, False)),
            true_negatives=pairs.count((False, False)),
            false_positives=pairs.count((False, True)),
            unparsed=sum(judgement is None for _, judgement in pairs),
        )

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of the shares of right and of wrong examples that were judged rightly; None without one of each."""
        right = self.true_positives + self.false_negatives
        wrong = self.true_negatives + self.false_positives
        if not right or not wrong:
            return None
        return (self.true_positives / right + self.true_negatives / wrong) / 2

    @property
    def f1(self) -> float | None:
        """F1 of the right examples: `2 TP / (2 TP + FP + FN)`; None without a right example."""
        if not self.true_positives + self.false_negatives:
            return None
        return 2 * self.true_positives / (2 * self.true_positives + self.false_positives + self.false_negatives)

    def to_json(self) -> dict[str, Any]:
        """Returns scores and counts as JSON values."""
        return {"balanced_accuracy": self.balanced_accuracy, "f1": self.f1, **asdict(self)}
