"""A language model that is run on the same tokens again and again, each time with other activations at one hook.

The first pass keeps the hidden states below the hook and after the last block, and later passes start from them. A
trial on the first contexts checks that the model then gives the same losses, bit for bit. If it does not, or if the
hook is not in a block, every pass runs the whole model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distsae.errors import WrongInput
from distsae.evaluation.next_token import token_losses
from distsae.language_model import LowerBlocks, block_count, blocks_below, resolve_hook, splice
from distsae.progress import say

__all__ = ["CleanPass", "SplicedModel"]


@dataclass(frozen=True, kw_only=True)
class CleanPass:
    """What the unchanged model gave for some contexts, and where later passes over them start.

    Args:
        token_ids: `[contexts, length]` int64.
        activations: activations at the hook, `[contexts, length, d_in]`.
        losses: loss of each next token in nats, `[contexts, length - 1]` float32.
        below: hidden states below the hook, `[contexts, length, width]`; None if later passes start at the tokens.
        top: hidden states after the last block, as `below`.
    """

    token_ids: Tensor
    activations: Tensor
    losses: Tensor
    below: Tensor | None
    top: Tensor | None

    def of(self, contexts: slice | Tensor) -> CleanPass:
        """Returns the same of some of the contexts: a slice of them, or their int64 indices."""
        return CleanPass(
            token_ids=self.token_ids[contexts],
            activations=self.activations[contexts],
            losses=self.losses[contexts],
            below=None if self.below is None else self.below[contexts],
            top=None if self.top is None else self.top[contexts],
        )

    @staticmethod
    def joined(parts: Sequence[CleanPass]) -> CleanPass:
        """Returns all contexts of the parts, one part after the other."""
        activations = torch.cat([part.activations for part in parts])
        shared = all(part.below is part.activations for part in parts)
        return CleanPass(
            token_ids=torch.cat([part.token_ids for part in parts]),
            activations=activations,
            losses=torch.cat([part.losses for part in parts]),
            below=activations if shared else _cat([part.below for part in parts]),
            top=_cat([part.top for part in parts]),
        )


class SplicedModel:
    """Runs a causal language model as it is, or with other activations at a hook.

    Args:
        model: a causal language model of transformers.
        hook: name of the hook.
        resume: whether later passes may start from hidden states of the first; without it each pass is whole.

    Raises:
        WrongInput: the model has no such hook.
    """

    def __init__(self, model: Any, hook: str, resume: bool = True) -> None:  # noqa: ANN401
        self.model = model
        self.point = resolve_hook(model, hook)
        self._below = _lower_blocks(model, blocks_below(model, self.point) if resume else 0)
        self._all = _lower_blocks(model, block_count(model) if resume else 0)
        self._tried = False

    @torch.no_grad()
    def clean(self, token_ids: Tensor) -> CleanPass:
        """Runs the unchanged model.

        Args:
            token_ids: `[contexts, length]` int64, on the model's device.

        Raises:
            WrongInput: a forward pass runs the hooked module more than once, or never.
        """
        kept: list[Tensor] = []

        def keep(activations: Tensor) -> Tensor:
            kept.append(activations.clone())  # later layers may change the tensor in place
            return activations

        with splice(self.model, self.point, keep), _observed(self._below) as below, _observed(self._all) as top:
            losses = token_losses(self._logits(token_ids), token_ids)
        if len(kept) != 1:
            raise WrongInput(
                f"`hook` (={self.point.name}) must run once in a forward pass; got {len(kept)} times; choose another "
                "hook"
            )
        clean = CleanPass(
            token_ids=token_ids, activations=kept[0], losses=losses, below=_only(below, kept[0]), top=_only(top)
        )
        return clean if self._tried else self._after_trial(clean)

    @torch.no_grad()
    def clean_logits(self, clean: CleanPass) -> Tensor:
        """Returns the logits of the unchanged model once more, `[contexts, length, vocabulary]`."""
        with _skipped(self._all, clean.top):
            return self._logits(clean.token_ids)

    @torch.no_grad()
    def spliced_logits(self, clean: CleanPass, activations: Tensor) -> Tensor:
        """Returns the logits with other activations at the hook, `[contexts, length, vocabulary]`.

        Args:
            clean: what the unchanged model gave for these contexts.
            activations: activations to put in, `[contexts, length, d_in]`; they are cast to the model's dtype.
        """
        with _skipped(self._below, clean.below), splice(self.model, self.point, lambda _: activations):
            return self._logits(clean.token_ids)

    def _logits(self, token_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=token_ids, use_cache=False).logits
        return logits

    def _after_trial(self, clean: CleanPass) -> CleanPass:
        """Keeps to whole passes where starting from hidden states changes a loss."""
        self._tried = True
        if self._below is not None and not self._holds(self._below, clean, clean.below):
            self._below = None
            say(f"evaluate: the blocks below {self.point.name} run in every pass, since this model needs them")
        if self._all is not None and not self._holds(self._all, clean, clean.top):
            self._all = None
        return CleanPass(
            token_ids=clean.token_ids,
            activations=clean.activations,
            losses=clean.losses,
            below=None if self._below is None else clean.below,
            top=None if self._all is None else clean.top,
        )

    def _holds(self, blocks: LowerBlocks, clean: CleanPass, hidden: Tensor | None) -> bool:
        if hidden is None:
            return False
        try:
            with blocks.skipped(hidden):
                losses = token_losses(self._logits(clean.token_ids), clean.token_ids)
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError):
            return False  # whatever the upper blocks miss, whole passes have it
        return torch.equal(losses, clean.losses)


def _lower_blocks(model: Any, count: int) -> LowerBlocks | None:  # noqa: ANN401
    return LowerBlocks(model, count) if count else None


@contextlib.contextmanager
def _observed(blocks: LowerBlocks | None) -> Iterator[list[Tensor]]:
    if blocks is None:
        yield []
        return
    with blocks.observed() as seen:
        yield seen


def _skipped(blocks: LowerBlocks | None, hidden: Tensor | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if blocks is None or hidden is None else blocks.skipped(hidden)


def _only(seen: Sequence[Tensor], activations: Tensor | None = None) -> Tensor | None:
    """Returns the hidden states of a single pass over the blocks; `activations` themselves where they are equal."""
    if len(seen) != 1:
        return None
    return activations if activations is not None and torch.equal(seen[0], activations) else seen[0]


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if len(found) == len(parts) else None
