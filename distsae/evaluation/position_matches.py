"""The matches of some positions of a block of contexts, and reconstructions from them a few contexts at a time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from distsae.allocation import Matches
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
        self._chosen = chosen
        x = activations[chosen]
        self._matches = sae.matches(x, rule=rule) if len(x) else _no_matches(x.device)
        ends = chosen.sum(1).cumsum(0)
        self._bounds = [0, *ends.tolist()]
        self.found = torch.zeros(chosen.shape, dtype=torch.int64, device=x.device)
        """Number of matches at each position, `[contexts, length]` int64; 0 at those that were not chosen."""
        self.found[chosen] = features_per_token(self._matches.token, len(x))

    @property
    def counts(self) -> Tensor:
        """Number of matches of each feature, `[d_sae]` int64 on the CPU."""
        return torch.bincount(self._matches.feature, minlength=self._sae.cfg.d_sae).cpu()

    def reconstructed(self, activations: Tensor, contexts: slice) -> Tensor:
        """Returns activations with the chosen positions reconstructed, `[contexts, length, d_in]` float32.

        Args:
            activations: raw activations of these contexts; where nothing was chosen, whatever is to stay there.
            contexts: which contexts of the block these are: a slice with both ends and no step.
        """
        first, last = self._bounds[contexts.start], self._bounds[contexts.stop]
        chosen = self._chosen[contexts]
        result = activations.to(torch.float32, copy=True)
        if first < last:
            token = self._matches.token
            start, end = torch.searchsorted(token, torch.tensor([first, last], device=token.device)).tolist()
            matches = Matches(
                token[start:end] - first, self._matches.feature[start:end], self._matches.score[start:end]
            )
            result[chosen] = self._sae.decode_matches(matches, activations[chosen]).float()
        return result


def _no_matches(device: torch.device) -> Matches:
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    return Matches(nothing, nothing, torch.zeros(0, device=device))
