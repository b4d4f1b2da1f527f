"""Gradient accumulation: matches are selected in each micro-batch separately, and all gradients make one update.

A micro-batch takes equally many rows from every stream of the batch, so that it holds the same rows on every mesh.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from distsae.allocation import Matches
from distsae.batches import Batch
from distsae.training.step.forward_backward import BatchOutcome
from distsae.training.step.gradients import Gradients

__all__ = ["joined_outcome", "micro_batches"]


def micro_batches(batch: Batch, streams: int, number: int) -> list[Batch]:
    """Splits a batch into micro-batches, each with equally many rows of every stream, in the order of the streams.

    Args:
        batch: this data rank's rows, stream by stream.
        streams: number of streams that the rows come from, equally many from each.
        number: number of micro-batches; divides the rows of a stream.
    """
    if number == 1:
        return [batch]
    tokens, d_in = batch.x.shape
    by_stream = batch.x.view(streams, number, -1, d_in)
    parts = [by_stream[:, index].reshape(-1, d_in) for index in range(number)]
    if batch.left_out is None:
        return [Batch(x) for x in parts]
    left_out = batch.x.new_zeros(tokens, dtype=torch.bool).index_fill(0, batch.left_out, value=True)
    by_stream = left_out.view(streams, number, -1)
    return [Batch(x, by_stream[:, index].flatten().nonzero().squeeze(1)) for index, x in enumerate(parts)]


def joined_outcome(outcomes: Sequence[BatchOutcome]) -> BatchOutcome:
    """Returns the outcome of the whole batch: losses are averaged over its tokens, energies summed.

    Its tokens are those of the first micro-batch, then those of the next, and so are its matches.

    Args:
        outcomes: outcome of each micro-batch, at least one.
    """
    if len(outcomes) == 1:
        return outcomes[0]
    sizes = [outcome.gradients.centred.shape[0] for outcome in outcomes]
    token_offsets = [sum(sizes[:index]) for index in range(len(sizes))]
    tokens = sum(outcome.tokens for outcome in outcomes)
    shares = [outcome.tokens / max(tokens, 1) for outcome in outcomes]
    by_observer = zip(*(outcome.observed for outcome in outcomes), strict=True)
    return BatchOutcome(
        matches=Matches.joined([outcome.matches for outcome in outcomes], token_offsets),
        loss=sum(outcome.loss * share for outcome, share in zip(outcomes, shares, strict=True)),
        aux_loss=sum(outcome.aux_loss for outcome in outcomes) / len(outcomes),
        squared_error=sum(outcome.squared_error for outcome in outcomes),
        energy=sum(outcome.energy for outcome in outcomes),
        gradients=Gradients.joined([outcome.gradients for outcome in outcomes]),
        tokens=tokens,
        observed=tuple(Matches.joined(parts, token_offsets) for parts in by_observer),
    )
