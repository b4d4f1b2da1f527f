"""The one pass over the text. It sums and keeps what `distsae.evaluation.summary` turns into numbers.

The contexts are processed in blocks. A clean forward pass gives the losses and activations of a block. The SAE selects
matches with both rules over the rows of the block. Then the model runs again with each reconstruction, with zeros and
with the mean spliced in at the positions of these rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from distsae.evaluation.adaptivity import features_per_token
from distsae.evaluation.fidelity import activation_sums, error_per_row
from distsae.evaluation.spliced import capture_with_losses, spliced_losses
from distsae.model import SAE, needs_threshold
from distsae.progress import Progress

__all__ = ["Measured", "RuleMeasured", "block_bounds", "measure"]

Rule = Literal["training", "frozen"]


@dataclass(frozen=True, kw_only=True)
class RuleMeasured:
    """What was measured with one selection rule.

    Args:
        sums: sums over each context, `[contexts]` float64: `error`, `matches`, `matches_square`, `ce_spliced`.
        counts: number of matches of each feature, `[d_sae]` int64.
        features_per_token: number of matches of each row, `[rows]` int32.
        squared_error: `||x - x_hat||^2` of each row, `[rows]` float32.
    """

    sums: dict[str, Tensor]
    counts: Tensor
    features_per_token: Tensor
    squared_error: Tensor


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured in the whole pass. Rows are ordered by context, then position.

    Args:
        sums: sums over each context, `[contexts, ...]` float64: those of `activation_sums`, `predictions`, `ce_clean`,
            `ce_zero`, `ce_mean`.
        everywhere: sums over each context, `[contexts]` float64, with the frozen rule and with the excluded positions
            spliced and counted too: `predictions`, `ce_clean`, `ce_spliced`, `ce_zero`, `ce_mean`.
        rules: what was measured with each rule; for Token Choice both names give the same object.
        token_loss: loss on the next token at each row, `[rows]` float32; NaN at the last position of a context.
        blocks: number of blocks over which the training rule shared its budget.
    """

    sums: dict[str, Tensor]
    everywhere: dict[str, Tensor]
    rules: dict[Rule, RuleMeasured]
    token_loss: Tensor
    blocks: int


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
    batch_contexts: int,
    block_rows: int,
) -> Measured:
    """Runs the model and the SAE over all contexts.

    Args:
        sae: the SAE.
        model: causal language model of transformers, on the device of the SAE.
        hook: hook of the model whose activations the SAE reconstructs.
        token_ids: token ids, `[contexts, length]` int64; at least two positions of a context are not excluded.
        mean: activation that mean ablation splices in, `[d_in]`.
        excluded_positions: number of first positions of a context that are neither replaced nor predicted from.
        batch_contexts: contexts in one forward pass.
        block_rows: most rows of a block over which the training rule shares its budget.
    """
    device = next(sae.parameters()).device
    mean = mean.to(device).float()
    rules: tuple[Rule, ...] = ("training", "frozen") if needs_threshold(sae.cfg.allocation) else ("training",)
    bounds = block_bounds(len(token_ids), token_ids.shape[1] - excluded_positions, block_rows)
    blocks = []
    passes = 3 + len(rules) + (3 if excluded_positions else 0)
    with Progress(token_ids.numel() * passes, "evaluate", "tokens") as progress:
        for first, last in bounds:
            ids = token_ids[first:last].to(device)
            block = _Block(sae, model, hook, ids, mean, excluded_positions, batch_contexts, progress)
            blocks.append(block.measure(rules))
    by_rule = {rule: _join_rule([found.rules[rule] for found in blocks]) for rule in rules}
    return Measured(
        sums=_join([found.sums for found in blocks]),
        everywhere=_join([found.everywhere for found in blocks]),
        rules={"training": by_rule["training"], "frozen": by_rule.get("frozen", by_rule["training"])},
        token_loss=torch.cat([found.token_loss for found in blocks]),
        blocks=len(blocks),
    )


class _Block:
    """A block of contexts; the training rule shares one budget over their rows."""

    def __init__(
        self,
        sae: SAE,
        model: Any,  # noqa: ANN401
        hook: str,
        token_ids: Tensor,
        mean: Tensor,
        excluded: int,
        batch_contexts: int,
        progress: Progress,
    ) -> None:
        self.sae = sae
        self.model = model
        self.hook = hook
        self.token_ids = token_ids
        self.mean = mean
        self.excluded = excluded
        self.batch = batch_contexts
        self.progress = progress

    def measure(self, rules: tuple[Rule, ...]) -> Measured:
        contexts, length = self.token_ids.shape
        captured = []
        for ids in torch.split(self.token_ids, self.batch):
            captured.append(capture_with_losses(self.model, self.hook, ids))
            self.progress.advance(ids.numel())
        activations = torch.cat([found.float() for found, _ in captured])
        clean = torch.cat([losses for _, losses in captured])
        x = activations[:, self.excluded :]
        measured = {}
        for rule in rules:
            measured[rule], x_hat = self._rule(x, rule)
        # The last rule is the frozen or only one, which is deployed, so its reconstruction is spliced at all positions.
        zero = torch.zeros_like(self.mean)
        clean_rows = clean[:, self.excluded :]
        sums = activation_sums(x, self.mean) | {
            "predictions": _per_context(torch.ones_like(clean_rows)),
            "ce_clean": _per_context(clean_rows),
            "ce_zero": _per_context(self._losses(lambda part: zero, self.excluded)),
            "ce_mean": _per_context(self._losses(lambda part: self.mean, self.excluded)),
        }
        token_loss = torch.full((contexts, length - self.excluded), float("nan"))
        token_loss[:, :-1] = clean_rows.cpu()
        return Measured(
            sums=sums,
            everywhere=self._everywhere(activations, x_hat, clean, sums, measured[rules[-1]].sums["ce_spliced"]),
            rules=measured,
            token_loss=token_loss.flatten(),
            blocks=1,
        )

    def _rule(self, x: Tensor, rule: Rule) -> tuple[RuleMeasured, Tensor]:
        """Measures one rule on the activations `[contexts, rows, d_in]`; returns also the reconstruction, as `x`."""
        contexts, rows, d_in = x.shape
        flat = x.reshape(-1, d_in)
        matches = self.sae.matches(flat, rule=rule)
        x_hat = self.sae.decode_matches(matches, flat).float()
        error = error_per_row(flat, x_hat)
        found = features_per_token(matches.token, contexts * rows)
        x_hat = x_hat.reshape(contexts, rows, d_in)
        sums = {
            "error": _per_context(error.reshape(contexts, rows)),
            "matches": _per_context(found.reshape(contexts, rows)),
            "matches_square": _per_context(found.reshape(contexts, rows).square()),
            "ce_spliced": _per_context(self._losses(lambda part: x_hat[part], self.excluded)),
        }
        measured = RuleMeasured(
            sums=sums,
            counts=torch.bincount(matches.feature, minlength=self.sae.cfg.d_sae).cpu(),
            features_per_token=found.int().cpu(),
            squared_error=error.float().cpu(),
        )
        return measured, x_hat

    def _everywhere(
        self, activations: Tensor, x_hat: Tensor, clean: Tensor, sums: dict[str, Tensor], spliced: Tensor
    ) -> dict[str, Tensor]:
        """Returns the sums of `Measured.everywhere`; without excluded positions they are those of the rows."""
        if self.excluded == 0:
            shared = {name: sums[name] for name in ("predictions", "ce_clean", "ce_zero", "ce_mean")}
            return shared | {"ce_spliced": spliced}
        first = activations[:, : self.excluded]
        flat = first.reshape(-1, first.shape[-1])
        matches = self.sae.matches(flat, rule="frozen")
        first_hat = self.sae.decode_matches(matches, flat).float().reshape(first.shape)
        whole = torch.cat([first_hat, x_hat], dim=1)
        zero = torch.zeros_like(self.mean)
        return {
            "predictions": _per_context(torch.ones_like(clean)),
            "ce_clean": _per_context(clean),
            "ce_spliced": _per_context(self._losses(lambda part: whole[part], 0)),
            "ce_zero": _per_context(self._losses(lambda part: zero, 0)),
            "ce_mean": _per_context(self._losses(lambda part: self.mean, 0)),
        }

    def _losses(self, replacement: Callable[[slice], Tensor], first_position: int) -> Tensor:
        """Returns the spliced losses of predictions from `first_position` on, `[contexts, predictions]`."""
        losses = []
        for first in range(0, len(self.token_ids), self.batch):
            part = slice(first, first + self.batch)
            ids = self.token_ids[part]
            losses.append(spliced_losses(self.model, self.hook, ids, replacement(part), first_position))
            self.progress.advance(ids.numel())
        return torch.cat(losses)[:, first_position:]


def _per_context(values: Tensor) -> Tensor:
    return values.double().sum(1).cpu()


def _join(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _join_rule(parts: list[RuleMeasured]) -> RuleMeasured:
    return RuleMeasured(
        sums=_join([part.sums for part in parts]),
        counts=torch.stack([part.counts for part in parts]).sum(0),
        features_per_token=torch.cat([part.features_per_token for part in parts]),
        squared_error=torch.cat([part.squared_error for part in parts]),
    )
