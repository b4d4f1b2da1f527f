"""Measures one block of contexts, over which the training rule shares one budget.

The unchanged model gives activations and losses. The SAE selects matches by each rule. Then, a few contexts at a time,
the model runs again with each reconstruction, with zeros and with the mean spliced in. Excluded positions and rows over
the SAE's `max_norm` keep their own activation and do not count. Where there are any, the frozen reconstruction and the
ablations run again: with the rows over `max_norm` spliced and counted too, and with every position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.evaluation.fidelity import activation_sums, error_sums, relative_errors
from distsae.evaluation.interventions import Ablated, Interventions
from distsae.evaluation.measured import Measured, RuleMeasured, Sums, TokenRows, joined_sums
from distsae.evaluation.position_matches import PositionMatches, Rule
from distsae.evaluation.positions import Positions
from distsae.evaluation.spliced_model import CleanPass, SplicedModel
from distsae.model import SAE, needs_threshold

__all__ = ["Block", "passes"]

_LOSSES = ("predictions", "ce_clean", "ce_spliced", "ce_zero", "ce_mean")


def passes(sae: SAE, excluded: int, excluded_tokens: Sequence[int] = ()) -> int:
    """Returns the number of passes of the model over each context, without those for rows over `max_norm`.

    Args:
        sae: the SAE.
        excluded: number of first positions of a context that give no rows.
        excluded_tokens: ids of tokens that give no rows.
    """
    return 1 + len(_rules(sae)) + 2 + (3 if excluded or excluded_tokens else 0)


class Block:
    """Some contexts, with what the model gives and the SAE selects in them.

    Args:
        sae: the SAE.
        model: the language model, on the device of the SAE.
        token_ids: token ids, `[contexts, length]` int64, on the device.
        mean: activation that mean ablation puts in, `[d_in]` float32, on the device.
        excluded: number of first positions of a context that give no rows.
        excluded_tokens: ids of tokens that give no rows.
        batch_contexts: contexts in one forward pass.
        ablated: ablations that are known; see `Interventions`.
        advance: function that is told the tokens of passes that are done.
    """

    def __init__(
        self,
        sae: SAE,
        model: SplicedModel,
        token_ids: Tensor,
        *,
        mean: Tensor,
        excluded: int,
        excluded_tokens: Sequence[int] = (),
        batch_contexts: int,
        ablated: Ablated | None = None,
        advance: Callable[[int], None],
    ) -> None:
        self._mean = mean
        self._interventions = Interventions(model, mean, ablated)
        self._model = model
        self._advance = advance
        self._passes = passes(sae, excluded, excluded_tokens)
        starts = range(0, len(token_ids), batch_contexts)
        self._batches = [slice(start, min(start + batch_contexts, len(token_ids))) for start in starts]
        self._clean = CleanPass.joined([self._clean_pass(token_ids[batch]) for batch in self._batches])
        activations = self._clean.activations
        self._norm = torch.cat([activations[batch].double().square().sum(-1).sqrt() for batch in self._batches])
        self._every_row = Positions.from_position(excluded, token_ids, excluded_tokens)
        self._rows_everywhere = excluded == 0 and bool(self._every_row.chosen.all())
        self._kept = self._every_row
        if sae.cfg.max_norm is not None:
            self._kept = Positions(self._every_row.chosen & (self._norm <= sae.cfg.max_norm), excluded)
        left_out = self._every_row.chosen & ~self._kept.chosen
        self._rows_left_out = left_out.sum(1).tolist()
        self._selected = {rule: PositionMatches(sae, activations, self._kept.chosen, rule) for rule in _rules(sae)}
        # How hard a row is to reconstruct shows with as many features for every row.
        self._per_token = PositionMatches(sae, activations, self._kept.chosen, "per_token")
        # The last rule is the frozen or only one, which is deployed, and which selects at all other positions.
        self._deployed = _rules(sae)[-1]
        self._others = PositionMatches(sae, activations, ~self._kept.chosen, "frozen")

    def measure(self, frequency: Tensor, first_context: int) -> Measured:
        """Returns what is measured over the block.

        Args:
            frequency: how often each token of the vocabulary is in the evaluated text, `[vocabulary]` int64.
            first_context: number of the block's first context in the evaluated text.
        """
        parts = [self._measure(batch) for batch in self._batches]
        rules = {
            rule: RuleMeasured(
                sums=_on_cpu([part.rules[rule] for part in parts]),
                counts=selected.counts,
                features_per_token=selected.found[self._kept.chosen].int().cpu(),
                squared_error=torch.cat([part.squared_error[rule] for part in parts])[self._kept.rows].float().cpu(),
            )
            for rule, selected in self._selected.items()
        }
        return Measured(
            sums=_on_cpu([part.sums for part in parts]),
            rules={"training": rules["training"], "frozen": rules.get("frozen", rules["training"])},
            with_left_out=_on_cpu([part.with_left_out for part in parts]),
            everywhere=_on_cpu([part.everywhere for part in parts]),
            rows=self._rows(
                frequency,
                first_context,
                torch.cat([part.difficulty for part in parts])[self._kept.chosen].float().cpu(),
            ),
            rows_left_out=sum(self._rows_left_out),
            blocks=1,
        )

    def _clean_pass(self, token_ids: Tensor) -> CleanPass:
        clean = self._model.clean(token_ids)
        self._advance(token_ids.numel())
        return clean

    def _measure(self, batch: slice) -> _Part:
        """Measures the contexts of one forward pass."""
        clean, kept = self._clean.of(batch), self._kept.of(batch)
        sums = self._shared(clean, kept)
        rules: dict[Rule, Sums] = {}
        squared_error: dict[Rule, Tensor] = {}
        clean_logits = self._model.clean_logits(clean)
        x_hat = clean.activations
        for rule, selected in self._selected.items():
            x_hat = selected.reconstructed(clean.activations, batch)
            errors, by_row = _errors(clean, kept, x_hat, selected.found[batch])
            rules[rule] = errors | self._interventions.compared(clean, clean_logits, kept, x_hat)
            squared_error[rule] = by_row
        del clean_logits
        per_token = self._per_token.reconstructed(clean.activations, batch)
        # The last reconstruction is that of the deployed rule; now it gets all other positions too.
        x_hat = self._others.reconstructed(x_hat, batch)
        of_all_rows = sums | {name: part for name, part in rules[self._deployed].items() if name != "kl"}
        of_all_rows = self._left_out_spliced(batch, clean, of_all_rows, x_hat)
        everywhere = self._everywhere(clean, of_all_rows, x_hat)
        self._advance(clean.token_ids.numel() * (self._passes - 1))
        return _Part(
            sums=sums,
            rules=rules,
            squared_error=squared_error,
            difficulty=relative_errors(clean.activations, per_token),
            with_left_out=of_all_rows,
            everywhere=everywhere,
        )

    def _shared(self, clean: CleanPass, positions: Positions) -> Sums:
        x = clean.activations[:, positions.first :]
        return activation_sums(x, self._mean, positions.rows) | self._interventions.ablations(clean, positions)

    def _left_out_spliced(self, batch: slice, clean: CleanPass, sums: Sums, x_hat: Tensor) -> Sums:
        """Returns `sums` with those of the contexts that have rows over `max_norm` replaced, as these run again."""
        contexts = [context for context, rows in enumerate(self._rows_left_out[batch]) if rows]
        if not contexts:
            return sums
        index = torch.tensor(contexts, device=clean.token_ids.device)
        some, rows = clean.of(index), self._every_row.of(batch).of(index)
        found = self._selected[self._deployed].found[batch] + self._others.found[batch]
        errors, _ = _errors(some, rows, x_hat[index], found[index])
        again = self._shared(some, rows) | errors | self._interventions.reconstruction(some, rows, x_hat[index])
        return {name: values.index_copy(0, index, again[name]) for name, values in sums.items()}

    def _everywhere(self, clean: CleanPass, of_all_rows: Sums, x_hat: Tensor) -> Sums:
        """Returns the sums of `Measured.everywhere`; with nothing excluded, the rows are all positions."""
        if self._rows_everywhere:
            return {name: of_all_rows[name] for name in _LOSSES}
        everywhere = Positions.from_position(0, clean.token_ids)
        ablations = self._interventions.ablations(clean, everywhere)
        return ablations | self._interventions.reconstruction(clean, everywhere, x_hat)

    def _rows(self, frequency: Tensor, first_context: int, difficulty: Tensor) -> TokenRows:
        token_ids, kept = self._clean.token_ids, self._kept.chosen
        contexts, length = token_ids.shape
        loss = torch.full((contexts, length), float("nan"), device=token_ids.device)
        loss[:, :-1] = self._clean.losses
        context, position = kept.nonzero(as_tuple=True)
        return TokenRows(
            token_loss=loss[kept].cpu(),
            norm=self._norm[kept].float().cpu(),
            difficulty=difficulty,
            token_id=token_ids[kept].int().cpu(),
            frequency=frequency[token_ids[kept].cpu()],
            position=position.int().cpu(),
            context=(context + first_context).int().cpu(),
        )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What was measured over the contexts of one forward pass; its names are those of `Measured`.

    All of it is on the device, and `squared_error` and `difficulty` have a number for every position from the first on
    that gives rows, or for every position: a CPU that asked for the chosen ones would wait for the device each time.
    """

    sums: Sums
    rules: dict[Rule, Sums]
    squared_error: dict[Rule, Tensor]
    difficulty: Tensor
    with_left_out: Sums
    everywhere: Sums


def _on_cpu(parts: Sequence[Sums]) -> Sums:
    """Returns sums over the contexts of all parts, on the CPU, by one copy."""
    joined = joined_sums(parts)
    copied = torch.cat([values.flatten() for values in joined.values()]).cpu()
    pieces = torch.split(copied, [values.numel() for values in joined.values()])
    return {name: piece.view(joined[name].shape) for name, piece in zip(joined, pieces, strict=True)}


def _rules(sae: SAE) -> tuple[Rule, ...]:
    """Returns the rules that differ, the one that is deployed last."""
    return ("training", "frozen") if needs_threshold(sae.cfg.allocation) else ("training",)


def _errors(clean: CleanPass, positions: Positions, x_hat: Tensor, found: Tensor) -> tuple[Sums, Tensor]:
    """Returns the sums over the reconstruction and the matches of each context, and the squared error of each row."""
    first = positions.first
    sums, error = error_sums(clean.activations[:, first:], x_hat[:, first:], positions.rows)
    sums["matches"] = positions.total(found)
    sums["matches_square"] = positions.total(found.square())
    return sums, error
