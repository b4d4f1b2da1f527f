"""The gradients of a step as it finds them: sums over matches of a few vectors, never matrices.

A row gradient of the encoder is the sum of `dot * (x - b_dec)` over a feature's matches, one of the decoder that of
`score * g`, where `g = dloss/dx_hat` and `dot = W_dec[feature] . g`. Matches and vectors say it all and are far
smaller than the matrices, `tokens * d_in` against `d_sae * d_in`: so it is they that data ranks exchange, and rows are
summed when an update wants them. Whoever sums them, sums in the order of the global batch: the same bits on every data
rank, and with every number of data ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from distsae.allocation import Matches
from distsae.collective import Collective
from distsae.kernels import Kernels, row_starts

__all__ = ["Gradients", "Term"]


@dataclass(frozen=True)
class Term:
    """What one reconstruction, the main or the auxiliary one, contributes.

    Args:
        matches: this rank's matches, by feature, in local indices.
        dots: `W_dec[feature] . g[token]` of each, `[matches]`.
        g: gradient of the loss with respect to `x_hat`, `[tokens, d_in]`.
    """

    matches: Matches
    dots: Tensor
    g: Tensor


@dataclass(frozen=True)
class Gradients:
    """The gradients of a batch with respect to one rank's features.

    Args:
        terms: the main reconstruction's, which also trains `b_dec` as a decoder bias, and the auxiliary one's.
        centred: `x - b_dec`, `[tokens, d_in]`.
        features: features on this rank.
        kernels: the operations.
    """

    terms: tuple[Term, ...]
    centred: Tensor
    features: int
    kernels: Kernels

    def row_blocks(self, size: int) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Yields `(first, last, gradient of W_enc[first:last], of W_dec[first:last])`, `size` rows at a time."""
        firsts = [*range(0, self.features, size), self.features]
        corners = torch.tensor(firsts, device=self.centred.device)
        places = [starts[corners].tolist() for starts in self._starts]
        for block, (first, last) in enumerate(pairwise(firsts)):
            encoder, decoder = self._sums(0, first, last, slice(*places[0][block : block + 2]))
            for term in range(1, len(self.terms)):
                more_encoder, more_decoder = self._sums(term, first, last, slice(*places[term][block : block + 2]))
                encoder += more_encoder
                decoder += more_decoder
            yield first, last, encoder, decoder

    def b_enc(self) -> Tensor:
        """Returns the gradient of `b_enc`, `[features]`."""
        ones = self.centred.new_ones(self.centred.shape[0], 1)
        sums = [
            self.kernels.row_sums(starts, term.matches.token, term.dots, ones).squeeze(1)
            for term, starts in zip(self.terms, self._starts, strict=True)
        ]
        return torch.stack(sums).sum(0)

    def b_dec_as_decoder_bias(self) -> Tensor:
        """Returns the gradient of `b_dec` but for its part through the encoder, `-W_enc.T @ b_enc.grad`, `[d_in]`."""
        return self.terms[0].g.sum(0)

    def gathered(self, data: Collective) -> Gradients:
        """Returns the gradients of the global batch, on every data rank; three collectives a term.

        Args:
            data: the ranks that hold other tokens of the same features, equally many.
        """
        if data.size == 1:
            return self
        sizes = [self.centred.shape[0]] * data.size
        terms = tuple(
            Term(*_merged(_everyones(term, data), sizes, self.features), _everyone(term.g, data)) for term in self.terms
        )
        return replace(self, terms=terms, centred=_everyone(self.centred, data))

    @staticmethod
    def joined(batches: Sequence[Gradients]) -> Gradients:
        """Returns the gradients of several batches of tokens, in their order, as of one."""
        if len(batches) == 1:
            return batches[0]
        sizes = [batch.centred.shape[0] for batch in batches]
        terms = tuple(
            Term(
                *_merged([(term.matches, term.dots) for term in parts], sizes, batches[0].features),
                torch.cat([term.g for term in parts]),
            )
            for parts in zip(*(batch.terms for batch in batches), strict=True)
        )
        return replace(batches[0], terms=terms, centred=torch.cat([batch.centred for batch in batches]))

    @cached_property
    def _starts(self) -> list[Tensor]:
        return [row_starts(term.matches.feature, self.features) for term in self.terms]

    def _sums(self, number: int, first: int, last: int, here: slice) -> tuple[Tensor, Tensor]:
        """Returns what term `number` gives to the rows `first` to `last`, whose matches are `here`."""
        term, starts = self.terms[number], self._starts[number][first : last + 1] - here.start
        token, score = term.matches.token[here], term.matches.score[here]
        return (
            self.kernels.row_sums(starts, token, term.dots[here], self.centred),
            self.kernels.row_sums(starts, token, score, term.g),
        )


def _everyone(vectors: Tensor, data: Collective) -> Tensor:
    """Returns all data ranks' vectors, `[tokens of all, d_in]`."""
    return data.stack(vectors).flatten(0, 1)


def _everyones(term: Term, data: Collective) -> list[tuple[Matches, Tensor]]:
    """Returns every data rank's matches and dots, in rank order, in one gather of whole numbers."""
    floats = torch.stack([term.matches.score, term.dots], 1)
    whole = torch.int32 if floats.dtype.itemsize == 4 else torch.long
    pairs = torch.stack([term.matches.feature, term.matches.token], 1).to(whole)
    found = []
    for part in data.gather(torch.cat([pairs, floats.view(whole)], 1)):
        feature, token = part[:, 0].long(), part[:, 1].long()
        score, dots = part[:, 2:].contiguous().view(floats.dtype).unbind(1)
        found.append((Matches(token, feature, score), dots))
    return found


def _merged(parts: Sequence[tuple[Matches, Tensor]], sizes: Sequence[int], features: int) -> tuple[Matches, Tensor]:
    """Merges matches, each part sorted by feature, by feature, then by part, without a sort.

    Args:
        parts: matches and their dots; the tokens of each part are counted on from the part before it.
        sizes: tokens of each part.
        features: number of features.
    """
    counts = torch.stack([torch.bincount(matches.feature, minlength=features) for matches, _ in parts])
    # Where the first match of each part's feature goes: after all earlier features, and earlier parts' of its own.
    start = counts.sum(0).cumsum(0) - counts.sum(0) + counts.cumsum(0) - counts
    shift = start - (counts.cumsum(1) - counts)
    total, (first, _) = sum(len(matches) for matches, _ in parts), parts[0]
    token, feature = first.token.new_empty(total), first.feature.new_empty(total)
    score = first.score.new_empty(total)
    dots = first.score.new_empty(total)
    tokens = 0
    for (matches, these), by, size in zip(parts, shift, sizes, strict=True):
        place = torch.arange(len(matches), device=matches.token.device) + by[matches.feature]
        token[place], feature[place] = matches.token + tokens, matches.feature
        score[place], dots[place] = matches.score, these
        tokens += size
    return Matches(token, feature, score), dots
