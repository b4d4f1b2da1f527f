"""What the pass over the text measures: sums over each context, and arrays over features and token rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from distsae.evaluation.position_matches import Rule

__all__ = ["Measured", "RuleMeasured", "Sums", "TokenRows", "joined_sums"]

Sums = dict[str, Tensor]
"""Sums over each context by name, `[contexts, ...]` float64, on the CPU."""


@dataclass(frozen=True, kw_only=True)
class TokenRows:
    """Facts of the measured rows, ordered by context, then position.

    Args:
        token_loss: loss on the next token in nats, `[rows]` float32; NaN at the last position of a context.
        norm: norm of the raw activation, `[rows]` float32.
        difficulty: `||x - x_hat|| / ||x||` of the reconstruction from the `k` largest scores of the row, `[rows]`
            float32.
        token_id: token at the row's position, `[rows]` int32.
        frequency: how often that token is in the evaluated text, `[rows]` int64.
        position: position in the context, `[rows]` int32.
        context: number of the context in the evaluated text, `[rows]` int32.
    """

    token_loss: Tensor
    norm: Tensor
    difficulty: Tensor
    token_id: Tensor
    frequency: Tensor
    position: Tensor
    context: Tensor

    def __len__(self) -> int:
        return len(self.position)

    @staticmethod
    def joined(parts: Sequence[TokenRows]) -> TokenRows:
        """Returns the rows of all parts, one part after the other."""
        return TokenRows(
            **{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(TokenRows)}
        )


@dataclass(frozen=True, kw_only=True)
class RuleMeasured:
    """What was measured with one selection rule.

    Args:
        sums: sums over each context, `[contexts]` float64: those of `error_sums`, `matches`, `matches_square`,
            `ce_spliced`, `kl`.
        counts: number of matches of each feature, `[d_sae]` int64.
        features_per_token: number of matches of each row, `[rows]` int32.
        squared_error: `||x - x_hat||^2` of each row, `[rows]` float32.
    """

    sums: Sums
    counts: Tensor
    features_per_token: Tensor
    squared_error: Tensor

    @staticmethod
    def joined(parts: Sequence[RuleMeasured]) -> RuleMeasured:
        """Returns the same over the contexts of all parts."""
        return RuleMeasured(
            sums=joined_sums([part.sums for part in parts]),
            counts=torch.stack([part.counts for part in parts]).sum(0),
            features_per_token=torch.cat([part.features_per_token for part in parts]),
            squared_error=torch.cat([part.squared_error for part in parts]),
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured over some contexts, by default without the rows over the SAE's `max_norm`.

    Args:
        sums: sums over each context, `[contexts, ...]` float64: those of `activation_sums`, `predictions`, `ce_clean`,
            `ce_zero`, `ce_mean`.
        rules: what was measured with each rule; for Token Choice both names give the same object.
        with_left_out: sums over each context with the frozen rule and with the rows over `max_norm` reconstructed,
            spliced and counted too: the names of `sums`, and of `RuleMeasured.sums` but `kl`.
        everywhere: sums over each context, `[contexts]` float64, with the frozen rule and with every position spliced
            and counted, excluded ones and rows over `max_norm` too: `predictions`, `ce_clean`, `ce_spliced`,
            `ce_zero`, `ce_mean`.
        rows: facts of the measured rows.
        rows_left_out: number of rows over `max_norm`.
        blocks: number of blocks over which the training rule shared its budget.
    """

    sums: Sums
    rules: dict[Rule, RuleMeasured]
    with_left_out: Sums
    everywhere: Sums
    rows: TokenRows
    rows_left_out: int
    blocks: int

    @staticmethod
    def joined(parts: Sequence[Measured]) -> Measured:
        """Returns the same over the contexts of all parts, one part after the other."""
        training = RuleMeasured.joined([part.rules["training"] for part in parts])
        is_one = all(part.rules["frozen"] is part.rules["training"] for part in parts)
        return Measured(
            sums=joined_sums([part.sums for part in parts]),
            rules={
                "training": training,
                "frozen": training if is_one else RuleMeasured.joined([part.rules["frozen"] for part in parts]),
            },
            with_left_out=joined_sums([part.with_left_out for part in parts]),
            everywhere=joined_sums([part.everywhere for part in parts]),
            rows=TokenRows.joined([part.rows for part in parts]),
            rows_left_out=sum(part.rows_left_out for part in parts),
            blocks=sum(part.blocks for part in parts),
        )


def joined_sums(parts: Sequence[Sums]) -> Sums:
    """Returns sums over the contexts of all parts, one part after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
