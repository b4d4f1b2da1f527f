"""The matches of some positions of a block of contexts, and reconstructions from them a few contexts at a time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from distsae.allocation import Matches
from distsae.allocation.segments import counted
from distsae.evaluation.adaptivity import features_per_token
from distsae.model import SAE, MatchRule

__all__ = ["PositionMatches", "Rule"]

Rule = Literal["training", "frozen"]


class PositionMatches:
    """What the SAE selects at some positions, with one rule over all of them.

    Args:
        sae: the SAE.
        activations: raw activations of the block, `[contexts, length, d_in]`.
        chosen: positions to select for, `[contexts, length]` bool.
        rule: rule to select with; the training rule takes the chosen positions as its batch.
    """

    def __init__(self, sae: SAE, activations: Tensor, chosen: Tensor, rule: MatchRule) -> None:
        self._sae = sae
        self._length = chosen.shape[1]
        self._index = chosen.flatten().nonzero().squeeze(1)  # of the chosen positions; none of what follows waits
        x = activations.flatten(0, 1)[self._index]
        self._matches = sae.matches(x, rule=rule) if len(x) else _no_matches(x.device)
        self.found = torch.zeros(chosen.shape, dtype=torch.int64, device=x.device)
        """Number of matches at each position, `[contexts, length]` int64; 0 at those that were not chosen."""
        if len(x):
            self.found.view(-1)[self._index] = features_per_token(self._matches.token, len(x))
        ends = torch.stack([chosen.sum(1), self.found.sum(1)]).cumsum(1)
        self._row_bounds, self._match_bounds = ([0, *part] for part in ends.tolist())

    @property
    def counts(self) -> Tensor:
        """Number of matches of each feature, `[d_sae]` int64 on the CPU."""
        return counted(self._matches.feature, self._sae.cfg.d_sae).cpu()

    def reconstructed(self, activations: Tensor, contexts: slice) -> Tensor:
        """Returns activations with the chosen positions reconstructed, `[contexts, length, d_in]` float32.

        Args:
            activations: raw activations of these contexts; where nothing was chosen, whatever is to stay there.
            contexts: which contexts of the block these are: a slice with both ends and no step.
        """
        first, last = self._row_bounds[contexts.start], self._row_bounds[contexts.stop]
        result = activations.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        if first < last:
            of_these = slice(self._match_bounds[contexts.start], self._match_bounds[contexts.stop])
            matches = self._matches
            matches = Matches(matches.token[of_these] - first, matches.feature[of_these], matches.score[of_these])
            index = self._index[first:last] - contexts.start * self._length
            rows = activations.flatten(0, 1)[index]
            result.view(-1, result.shape[-1])[index] = self._sae.decode_matches(matches, rows).float()
        return result


def _no_matches(device: torch.device) -> Matches:
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    return Matches(nothing, nothing, torch.zeros(0, device=device))
