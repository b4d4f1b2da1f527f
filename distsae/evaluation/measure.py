"""The one pass over the text, block by block. `distsae.evaluation.summary` turns what it finds into numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from distsae.errors import WrongInput
from distsae.evaluation.block import Block, passes
from distsae.evaluation.interventions import Ablated
from distsae.evaluation.measured import Measured
from distsae.evaluation.spliced_model import SplicedModel
from distsae.model import SAE
from distsae.progress import Progress

__all__ = ["block_bounds", "measure"]


def block_bounds(contexts: int, rows_per_context: int, block_rows: int) -> list[tuple[int, int]]:
    """Returns the first context and the end of each block.

    A block has at most `block_rows` rows, but at least one context. Sizes differ by one context at most, since a last
    block of a few rows would share its budget over too few tokens.
    """
    per_block = max(block_rows // rows_per_context, 1)
    blocks = -(-contexts // per_block)
    return [(contexts * i // blocks, contexts * (i + 1) // blocks) for i in range(blocks)]


@torch.no_grad()
def measure(
    sae: SAE,
    model: Any,  # noqa: ANN401
    hook: str,
    token_ids: Tensor,
    *,
    mean: Tensor,
    excluded_positions: int,
    excluded_tokens: Sequence[int] = (),
    batch_contexts: int,
    block_rows: int,
    resume: bool = True,
    ablated: Ablated | None = None,
) -> Measured:
    """Runs the model and the SAE over all contexts.

    Args:
        sae: the SAE; rows over its `max_norm` are left out.
        model: causal language model of transformers, on the device of the SAE.
        hook: hook of the model whose activations the SAE reconstructs.
        token_ids: token ids, `[contexts, length]` int64; at least two positions of a context are not excluded.
        mean: activation that mean ablation splices in, `[d_in]`.
        excluded_positions: number of first positions of a context that are neither replaced nor predicted from.
        excluded_tokens: ids of tokens that are neither replaced nor predicted from.
        batch_contexts: contexts in one forward pass.
        block_rows: most rows of a block over which the training rule shares its budget.
        resume: whether the model starts from hidden states of its first pass where it can; it is as exact, and faster.
        ablated: ablations of this model at this hook that are known, to which others are added.

    Raises:
        WrongInput: every row is over `max_norm`.
    """
    spliced = SplicedModel(model, hook, resume)
    mean = mean.to(sae.device).float()
    frequency = torch.bincount(token_ids.flatten().cpu())
    blocks = []
    total = token_ids.numel() * passes(sae, excluded_positions, excluded_tokens)
    with Progress(total, "evaluate", "tokens") as progress:
        for first, last in block_bounds(len(token_ids), token_ids.shape[1] - excluded_positions, block_rows):
            blocks.append(
                Block(
                    sae,
                    spliced,
                    token_ids[first:last].to(sae.device),
                    mean=mean,
                    excluded=excluded_positions,
                    excluded_tokens=excluded_tokens,
                    batch_contexts=batch_contexts,
                    ablated=ablated,
                    advance=progress.advance,
                ).measure(frequency, first)
            )
    measured = Measured.joined(blocks)
    if len(measured.rows) == 0:
        raise WrongInput(
            f"`max_norm` (={sae.cfg.max_norm}) of the SAE must leave rows to measure; got none of "
            f"{measured.rows_left_out} rows under it; use the store and model that the SAE was trained on"
        )
    return measured
