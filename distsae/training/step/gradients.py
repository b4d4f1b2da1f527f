"""The gradients of a batch, kept as matches and a vector per token instead of matrices.

The gradient of an encoder row is the sum of `dot * (x - b_dec)` over the feature's matches, that of a decoder row the
sum of `score * g`, where `g = dloss/dx_hat` and `dot = W_dec[feature] . g`. Matches and vectors are far smaller than
the matrices, `tokens * d_in` against `d_sae * d_in`, so data ranks exchange these, and rows are summed only when an
update needs them. Every rank sums in the order of the global batch, so the bits do not depend on the number of
data ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from distsae.allocation import Matches
from distsae.allocation.segments import counted
from distsae.collective import Collective
from distsae.kernels import Kernels, RowTerm, row_starts

__all__ = ["Gradients", "Term"]


@dataclass(frozen=True)
class Term:
    """The part of the gradients that comes from one reconstruction, the main or the auxiliary one.

    Args:
        matches: this rank's matches, sorted by feature, in local indices.
        dots: `W_dec[feature] . g[token]` of each match, `[matches]`.
        g: gradient of the loss with respect to `x_hat`, `[tokens, d_in]`.
    """

    matches: Matches
    dots: Tensor
    g: Tensor


@dataclass(frozen=True)
class Gradients:
    """The gradients of a batch with respect to one rank's features.

    Args:
        terms: term of the main reconstruction, which also trains `b_dec` as a decoder bias, and perhaps that of the
            auxiliary one.
        centred: `x - b_dec`, `[tokens, d_in]`.
        features: number of features on this rank.
        kernels: operations of the step.
    """

    terms: tuple[Term, ...]
    centred: Tensor
    features: int
    kernels: Kernels

    def row_blocks(self, size: int, rows: range | None = None) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Sums the gradients of rows, one block of rows after the other.

        Args:
            size: rows in a block, but for the last one.
            rows: rows to sum; by default all of them.

        Yields:
            `(first, last, gradient of W_enc[first:last], gradient of W_dec[first:last])`.
        """
        rows = range(self.features) if rows is None else rows
        for first, last in pairwise([*range(rows.start, rows.stop, size), rows.stop]):
            encoder, decoder = self._row_sums(0, first, last)
            for term in range(1, len(self.terms)):
                more_encoder, more_decoder = self._row_sums(term, first, last)
                encoder += more_encoder
                decoder += more_decoder
            yield first, last, encoder, decoder

    def row_terms(self, rows: range) -> list[RowTerm]:
        """Returns what `row_blocks` sums for some rows, for an operation that sums it itself."""
        return [
            RowTerm(starts[rows.start : rows.stop + 1], term.matches.token, term.dots, term.matches.score, term.g)
            for term, starts in zip(self.terms, self._starts, strict=True)
        ]

    def b_enc(self) -> Tensor:
        """Returns the gradient of `b_enc`, `[features]`."""
        ones = self.centred.new_ones(self.centred.shape[0], 1)
        sums = [
            self.kernels.row_sums(starts, term.matches.token, term.dots, ones).squeeze(1)
            for term, starts in zip(self.terms, self._starts, strict=True)
        ]
        return torch.stack(sums).sum(0)

    def b_dec_as_decoder_bias(self) -> Tensor:
        """Returns the gradient of `b_dec` without the part through the encoder, `-W_enc.T @ b_enc.grad`, `[d_in]`."""
        return self.terms[0].g.sum(0)

    def gathered(self, data: Collective) -> Gradients:
        """Returns the gradients of the global batch, on every data rank. Collective.

        Args:
            data: ranks with the same features and other tokens, equally many on each.
        """
        if data.size == 1:
            return self
        sizes = [self.centred.shape[0]] * data.size
        terms = []
        for term in self.terms:
            matches, dots = _merged(_gathered_matches(term, data), sizes, self.features)
            terms.append(Term(matches, dots, _gathered_vectors(term.g, data)))
        return replace(self, terms=tuple(terms), centred=_gathered_vectors(self.centred, data))

    @staticmethod
    def joined(batches: Sequence[Gradients]) -> Gradients:
        """Returns the gradients of one batch that consists of several.

        Args:
            batches: gradients of each batch, with equally many terms, in the order of their tokens; at least one.
        """
        if len(batches) == 1:
            return batches[0]
        sizes = [batch.centred.shape[0] for batch in batches]
        terms = []
        for parts in zip(*(batch.terms for batch in batches), strict=True):
            matches, dots = _merged([(part.matches, part.dots) for part in parts], sizes, batches[0].features)
            terms.append(Term(matches, dots, torch.cat([part.g for part in parts])))
        return replace(batches[0], terms=tuple(terms), centred=torch.cat([batch.centred for batch in batches]))

    @cached_property
    def _starts(self) -> list[Tensor]:
        """For each term, the index of each feature's first match, and at the end the number of matches."""
        return [row_starts(term.matches.feature, self.features) for term in self.terms]

    def _row_sums(self, number: int, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Returns what a term contributes to the encoder and decoder gradients of some rows.

        Args:
            number: index of the term.
            first: first of the rows.
            last: end of the rows, exclusive.
        """
        term = self.terms[number]
        starts = self._starts[number][first : last + 1]
        token = term.matches.token
        return (
            self.kernels.row_sums(starts, token, term.dots, self.centred),
            self.kernels.row_sums(starts, token, term.matches.score, term.g),
        )


def _gathered_vectors(vectors: Tensor, data: Collective) -> Tensor:
    """Returns the vectors of all data ranks in rank order, `[tokens of the global batch, d_in]`. Collective."""
    return data.stack(vectors).flatten(0, 1)


def _gathered_matches(term: Term, data: Collective) -> list[tuple[Matches, Tensor]]:
    """Returns the matches and dots of each data rank, in rank order. Collective: one gather of integers."""
    floats = torch.stack([term.matches.score, term.dots], 1)
    integer = torch.int32 if floats.dtype.itemsize == 4 else torch.long
    pairs = torch.stack([term.matches.feature, term.matches.token], 1).to(integer)
    by_rank = []
    for part in data.gather(torch.cat([pairs, floats.view(integer)], 1)):
        feature, token = part[:, 0].long(), part[:, 1].long()
        score, dots = part[:, 2:].contiguous().view(floats.dtype).unbind(1)
        by_rank.append((Matches(token, feature, score), dots))
    return by_rank


def _merged(parts: Sequence[tuple[Matches, Tensor]], sizes: Sequence[int], features: int) -> tuple[Matches, Tensor]:
    """Merges matches by feature, then by part, without a sort.

    Args:
        parts: matches of each part, sorted by feature, and their dots. The tokens of a part follow those of the parts
            before it.
        sizes: number of tokens of each part.
        features: number of features.

    Returns:
        All matches and their dots.
    """
    counts = torch.stack([counted(matches.feature, features) for matches, _ in parts])
    # A part's first match of a feature comes after all matches of earlier features and those of earlier parts.
    start = counts.sum(0).cumsum(0) - counts.sum(0) + counts.cumsum(0) - counts
    shifts = start - (counts.cumsum(1) - counts)
    total = sum(len(matches) for matches, _ in parts)
    first, _ = parts[0]
    token = first.token.new_empty(total)
    feature = first.feature.new_empty(total)
    score = first.score.new_empty(total)
    dots = first.score.new_empty(total)
    token_offset = 0
    for (matches, dots_of_part), shift, size in zip(parts, shifts, sizes, strict=True):
        position = torch.arange(len(matches), device=matches.token.device) + shift[matches.feature]
        token[position] = matches.token + token_offset
        feature[position] = matches.feature
        score[position] = matches.score
        dots[position] = dots_of_part
        token_offset += size
    return Matches(token, feature, score), dots
