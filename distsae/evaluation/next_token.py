"""What the language model predicts at each position: its loss on the next token, and how far two predictions differ."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["divergences", "token_losses"]


def token_losses(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Returns the losses in nats, `[contexts, length - 1]` float32: entry `p` is the cross-entropy of token `p + 1`.

    Args:
        logits: `[contexts, length, vocabulary]`.
        token_ids: `[contexts, length]` int64.
    """
    # One context at a time, since a float32 copy of all logits would be the largest tensor of the evaluation.
    losses = [
        functional.cross_entropy(row[:-1].float(), ids[1:], reduction="none")
        for row, ids in zip(logits, token_ids, strict=True)
    ]
    return torch.stack(losses)


def divergences(clean: Tensor, spliced: Tensor) -> Tensor:
    """Returns KL(clean || spliced) of the predictions in nats, `[contexts, length - 1]` float64.

    Args:
        clean: logits of the unchanged model, `[contexts, length, vocabulary]`.
        spliced: logits of the same model with other activations at the hook, as `clean`.
    """
    return torch.stack([_divergence(ours[:-1], others[:-1]) for ours, others in zip(clean, spliced, strict=True)])


def _divergence(clean: Tensor, spliced: Tensor) -> Tensor:
    # In float64: nearly equal predictions differ by less than the rounding errors of a float32 sum over the vocabulary.
    log_clean, log_spliced = clean.double().log_softmax(-1), spliced.double().log_softmax(-1)
    probability = log_clean.exp()
    # A token of probability 0 has no share, whatever its logarithm is.
    terms = torch.where(probability > 0, probability * (log_clean - log_spliced), 0.0)
    return terms.sum(-1)
