"""Gradient accumulation: matches are selected in each micro-batch separately, and all gradients make one update.

A micro-batch takes equally many rows from every stream of the batch, so that it holds the same rows on every mesh.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from distsae.allocation import Matches
from distsae.training.step.forward_backward import BatchOutcome
from distsae.training.step.gradients import Gradients

__all__ = ["joined_outcome", "micro_batches"]


def micro_batches(x: Tensor, streams: int, number: int) -> list[Tensor]:
    """Splits a batch into micro-batches, each with equally many rows of every stream, in the order of the streams.

    Args:
        x: this data rank's rows, stream by stream, `[tokens, d_in]`.
        streams: number of streams that the rows come from, equally many from each.
        number: number of micro-batches; divides the rows of a stream.
    """
    if number == 1:
        return [x]
    by_stream = x.view(streams, number, -1, x.shape[1])
    return [by_stream[:, index].reshape(-1, x.shape[1]) for index in range(number)]


def joined_outcome(outcomes: Sequence[BatchOutcome]) -> BatchOutcome:
    """Returns the outcome of the whole batch: losses are averaged over the micro-batches, energies summed.

    Its tokens are those of the first micro-batch, then those of the next, and so are its matches.

    Args:
        outcomes: outcome of each micro-batch, at least one.
    """
    if len(outcomes) == 1:
        return outcomes[0]
    sizes = [outcome.gradients.centred.shape[0] for outcome in outcomes]
    token_offsets = [sum(sizes[:index]) for index in range(len(sizes))]
    by_observer = zip(*(outcome.observed for outcome in outcomes), strict=True)
    return BatchOutcome(
        matches=Matches.joined([outcome.matches for outcome in outcomes], token_offsets),
        loss=sum(outcome.loss for outcome in outcomes) / len(outcomes),
        aux_loss=sum(outcome.aux_loss for outcome in outcomes) / len(outcomes),
        squared_error=sum(outcome.squared_error for outcome in outcomes),
        energy=sum(outcome.energy for outcome in outcomes),
        gradients=Gradients.joined([outcome.gradients for outcome in outcomes]),
        observed=tuple(Matches.joined(parts, token_offsets) for parts in by_observer),
    )
