"""An SAE in a running language model: what it sees and what it makes of it, at its own hook.

Rows that the SAE was not trained on (excluded positions and tokens, rows of outlier norm) keep their own activation. No
gradient flows through a reconstruction, unless an edit makes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from distsae.allocation import Matches
from distsae.errors import WrongInput
from distsae.hooks import HookPoint, activations_at, resolve_hook, splice
from distsae.model.sae_config import SAEConfig

__all__ = ["Attachment", "Edit", "attached"]

Edit = Callable[[Tensor], Tensor]
"""A function from feature activations, `[rows, d_sae]`, to others."""


class AttachableSAE(Protocol):
    """What an SAE must do to be attached; `distsae.SAE` does."""

    cfg: SAEConfig

    def encode(self, x: Tensor) -> Tensor: ...
    def decode(self, feature_acts: Tensor, x: Tensor) -> Tensor: ...
    def matches(self, x: Tensor) -> Matches: ...
    def decode_matches(self, matches: Matches, x: Tensor) -> Tensor: ...


@dataclass(eq=False)
class Attachment:
    """What the last forward pass gave; nothing before the first one.

    Args:
        activations: activations at the hook, `[batch, length, d_in]`, in the dtype of the model.
        included: rows that the SAE is for, bool `[batch, length]`.
        matches: matches of these rows under the frozen rule; `token` counts all rows, `batch * length` of them.
        x_hat: what the model went on with, `[batch, length, d_in]`; None if nothing was spliced.
        d_sae: number of features.
    """

    activations: Tensor | None = None
    included: Tensor | None = None
    matches: Matches | None = None
    x_hat: Tensor | None = None
    d_sae: int = 0

    @property
    def feature_acts(self) -> Tensor:
        """The dense feature activations, `[batch, length, d_sae]`; zeros in rows that are left out.

        Raises:
            WrongInput: the model has not run yet.
        """
        if self.matches is None or self.included is None or self.activations is None:
            raise WrongInput("the model must have run; got no forward pass yet; call it inside the block")
        dense = torch.zeros(self.included.numel(), self.d_sae, device=self.matches.score.device)
        dense[self.matches.token, self.matches.feature] = self.matches.score
        return dense.reshape(*self.included.shape, self.d_sae)


@contextmanager
def attached(
    sae: AttachableSAE, model: nn.Module, *, spliced: bool = True, edit: Edit | None = None, keep_error: bool = False
) -> Iterator[Attachment]:
    """Within this context every forward pass of `model` is encoded at the SAE's hook; `SAE.attach` is the method.

    Args:
        sae: the SAE.
        model: a transformers model.
        spliced: whether the model goes on with the reconstruction; if not, it runs as it is.
        edit: changes the feature activations before they are decoded, for steering; it gets dense ones.
        keep_error: whether what the SAE misses of each row is added to the reconstruction, so that without an edit
            nothing changes.

    Raises:
        WrongInput: the model has no such hook, or activations of another width there.
    """
    if not spliced and (edit is not None or keep_error):
        raise WrongInput("`spliced` (=False) must be True for an edit or an error to matter; leave it out")
    point = resolve_hook(model, sae.cfg.hook_name)
    seen = Attachment(d_sae=sae.cfg.d_sae)
    inputs: dict[str, Any] = {"past": 0, "ids": None}

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")  # asked now, since the blocks below the hook add this pass to it
        past = int(cache.get_seq_length()) if cache is not None else 0
        inputs.update(past=past, ids=kwargs.get("input_ids", args[0] if args else None))

    def replace(values: Tensor) -> Tensor:
        _check(point, values, sae)
        included = _included(values, inputs, sae)
        rows = values.reshape(-1, values.shape[-1])
        kept = included.reshape(-1).nonzero().squeeze(1)
        x = rows[kept]
        found = sae.matches(x)
        seen.activations, seen.included = values, included
        seen.matches = Matches(kept[found.token], found.feature, found.score)
        if not spliced:
            return values
        x_hat = _reconstruction(sae, x, found, edit, keep_error)
        new = rows.clone()
        new[kept] = x_hat.to(rows.dtype)
        seen.x_hat = new.reshape(values.shape)
        return seen.x_hat

    handle = model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with splice(model, point, replace):
            yield seen
    finally:
        handle.remove()


def _reconstruction(sae: AttachableSAE, x: Tensor, found: Matches, edit: Edit | None, keep_error: bool) -> Tensor:
    x_hat = sae.decode_matches(found, x)
    if edit is None:
        return x.to(x_hat.dtype) if keep_error else x_hat
    acts = sae.encode(x)
    edited = edit(acts.clone())
    if edited.shape != acts.shape:
        raise WrongInput(f"`edit` must return feature activations {[*acts.shape]}; got {[*edited.shape]}")
    new = sae.decode(edited, x)
    return new + (x.to(new.dtype) - x_hat) if keep_error else new


def _check(point: HookPoint, values: Tensor, sae: AttachableSAE) -> None:
    activations_at(point, values, values[..., 0] if values.dim() else values)
    if values.shape[-1] != sae.cfg.d_in:
        raise WrongInput(
            f"`model` must have activations of width {sae.cfg.d_in} at {sae.cfg.hook_name}; got {values.shape[-1]}; "
            "use the model that the SAE was trained on"
        )


def _included(values: Tensor, inputs: dict[str, Any], sae: AttachableSAE) -> Tensor:
    """Returns which rows the SAE is for, bool `[batch, length]`.

    Positions are counted from the start of the input, and on from what a cache holds; padding on the left is not known.
    """
    batch, length, _ = values.shape
    first = max(sae.cfg.excluded_positions - inputs["past"], 0)
    included = torch.ones(batch, length, dtype=torch.bool, device=values.device)
    included[:, :first] = False
    ids = inputs["ids"]
    if sae.cfg.excluded_tokens and isinstance(ids, Tensor) and ids.shape == included.shape:
        excluded = torch.tensor(sae.cfg.excluded_tokens, device=values.device)
        included &= ~torch.isin(ids.to(values.device), excluded)
    if sae.cfg.max_norm is not None:
        included &= torch.linalg.vector_norm(values.float(), dim=-1) <= sae.cfg.max_norm
    return included
