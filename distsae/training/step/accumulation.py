"""An optimizer step in several micro-batches: each is selected from alone, their gradients are one batch's.

Micro-batches are cut from the streams of a batch, not from its ranks: they hold the same rows on every mesh.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distsae.allocation import Matches
from distsae.training.step.forward_backward import BatchOutcome
from distsae.training.step.gradients import Gradients

__all__ = ["joined", "micro_batches"]


def micro_batches(x: Tensor, streams: int, number: int) -> list[Tensor]:
    """Returns `number` parts of a batch, each with as many rows of every stream, in the order of the streams.

    Args:
        x: this data rank's rows, stream by stream, `[tokens, d_in]`.
        streams: how many streams they come from; each gives equally many.
        number: of parts; divides the rows of a stream.
    """
    if number == 1:
        return [x]
    by_stream = x.view(streams, number, -1, x.shape[1])
    return [by_stream[:, part].reshape(-1, x.shape[1]) for part in range(number)]


def joined(outcomes: Sequence[BatchOutcome]) -> BatchOutcome:
    """Returns the outcome of the step that consists of these micro-batches: losses averaged, energies summed.

    Tokens are counted on from one micro-batch to the next; matches are in the order of the micro-batches.
    """
    if len(outcomes) == 1:
        return outcomes[0]
    sizes = [outcome.gradients.centred.shape[0] for outcome in outcomes]
    return BatchOutcome(
        matches=_all([outcome.matches for outcome in outcomes], sizes),
        loss=sum(outcome.loss for outcome in outcomes) / len(outcomes),
        aux_loss=sum(outcome.aux_loss for outcome in outcomes) / len(outcomes),
        squared_error=sum(outcome.squared_error for outcome in outcomes),
        energy=sum(outcome.energy for outcome in outcomes),
        gradients=Gradients.joined([outcome.gradients for outcome in outcomes]),
        observed=tuple(_all(found, sizes) for found in zip(*(outcome.observed for outcome in outcomes), strict=True)),
    )


def _all(parts: Sequence[Matches], sizes: Sequence[int]) -> Matches:
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    token = torch.cat([matches.token + start for matches, start in zip(parts, starts, strict=True)])
    return Matches(token, torch.cat([m.feature for m in parts]), torch.cat([m.score for m in parts]))
