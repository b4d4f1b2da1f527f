"""A match: one token-feature pair that the allocation selected, with its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Matches"]


@dataclass(frozen=True)
class Matches:
    """The matches of a batch in coordinate form: `feature_acts` without its zeros.

    Args:
        token: token of each match, as an index into the batch, int64 `[matches]`.
        feature: feature of each match, int64 `[matches]`.
        score: score of each match, `relu(pre_acts)` of the pair, fp32 `[matches]`, always > 0.
    """

    token: Tensor
    feature: Tensor
    score: Tensor

    def __len__(self) -> int:
        return self.score.numel()

    @staticmethod
    def joined(parts: Sequence[Matches], token_offsets: Sequence[int] | None = None) -> Matches:
        """Returns the matches of all parts, one part after the other.

        Args:
            parts: matches to join, at least one part.
            token_offsets: number to add to the tokens of each part, for parts that are consecutive pieces of a batch;
                by default tokens stay as they are.
        """
        tokens = [part.token for part in parts]
        if token_offsets is not None:
            tokens = [token + offset for token, offset in zip(tokens, token_offsets, strict=True)]
        features = [part.feature for part in parts]
        scores = [part.score for part in parts]
        return Matches(torch.cat(tokens), torch.cat(features), torch.cat(scores))

    def picked(self, index: Tensor) -> Matches:
        """Returns the matches that `index` picks: int64 indices in any order, or a bool mask `[matches]`."""
        return Matches(self.token[index], self.feature[index], self.score[index])

    def by_token(self) -> Matches:
        """Returns the same matches sorted by token, then feature."""
        return self._sorted(self.token, self.feature)

    def by_feature(self) -> Matches:
        """Returns the same matches sorted by feature, then token."""
        return self._sorted(self.feature, self.token)

    def dense(self, tokens: int, features: int) -> Tensor:
        """Returns `feature_acts` with its zeros, `[tokens, features]` in the scores' dtype; for small sizes."""
        acts = self.score.new_zeros(tokens, features)
        acts[self.token, self.feature] = self.score
        return acts

    def _sorted(self, first: Tensor, second: Tensor) -> Matches:
        if not len(self):
            return self
        return self.picked(((first << 32) + second).argsort())
