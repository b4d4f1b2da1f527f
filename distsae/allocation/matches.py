"""A match: one token-feature pair that the allocation selected, with its score."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Matches"]


@dataclass(frozen=True)
class Matches:
    """The matches of a batch in coordinate form: `feature_acts` without its zeros.

    Args:
        token: row of the batch, int64 `[matches]`.
        feature: feature, int64 `[matches]`.
        score: `relu(pre_acts)` of the pair, fp32 `[matches]`, always > 0.
    """

    token: Tensor
    feature: Tensor
    score: Tensor

    def __len__(self) -> int:
        return self.score.numel()

    def by_token(self) -> Matches:
        """Returns the same matches sorted by token, then feature."""
        return self._sorted(self.token, self.feature)

    def by_feature(self) -> Matches:
        """Returns the same matches sorted by feature, then token."""
        return self._sorted(self.feature, self.token)

    def dense(self, tokens: int, features: int) -> Tensor:
        """Returns `feature_acts`, `[tokens, features]` in the scores' dtype, zeros included; for small sizes."""
        acts = self.score.new_zeros(tokens, features)
        acts[self.token, self.feature] = self.score
        return acts

    def _sorted(self, first: Tensor, second: Tensor) -> Matches:
        span = int(second.max()) + 1 if len(self) else 1
        order = (first * span + second).argsort()
        return Matches(self.token[order], self.feature[order], self.score[order])
