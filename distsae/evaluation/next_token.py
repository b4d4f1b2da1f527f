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
    contexts, length, vocabulary = clean.shape
    rows = max(_AT_ONCE[clean.is_cuda] // vocabulary, 1)
    kl = torch.empty(contexts, length - 1, dtype=torch.float64, device=clean.device)
    for context in range(contexts):
        for first in range(0, length - 1, rows):
            part = slice(first, min(first + rows, length - 1))
            kl[context, part] = _divergence(clean[context, part].double(), spliced[context, part].double())
    return kl


_AT_ONCE = {False: 2**17, True: 2**25}
"""Values of a float64 piece of the logits, on a CPU and on a GPU: what stays in the cache, and what keeps it busy."""


def _divergence(clean: Tensor, spliced: Tensor) -> Tensor:
    """Returns KL of each row, from float64 logits.

    With `d` the differences of the logits, and their mean `m` and the mean of `exp(d - m)` taken over the clean
    probabilities, it is the logarithm of the latter. No two numbers that are nearly equal are subtracted.
    """
    probability = clean.softmax(-1)
    difference = spliced - clean
    difference.masked_fill_(probability == 0, 0.0)  # a token that cannot come has no share, if its logit is -inf too
    difference.sub_(torch.linalg.vecdot(probability, difference)[:, None])
    mean_exp: Tensor = torch.linalg.vecdot(probability, difference.exp_())
    return mean_exp.log()
