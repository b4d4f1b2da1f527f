"""The end of a language model, as a direction of the residual stream meets it: final norm and unembedding.

Along a direction `d` the logits change by `W_U (w * d)`, up to the scale of the norm, which depends on the token; `w`
is the gain of the final norm. Families write it differently: Gemma keeps `w - 1`, and layer norms subtract the mean of
`d` first. So the gain is not read from a parameter but measured, with inputs on which the norm's own scale is 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distsae.hooks import blocks_path

__all__ = ["OutputHead", "output_head"]

_FINAL_NORMS = ("ln_f", "norm_f", "final_layer_norm", "final_layernorm", "final_norm", "norm", "ln_final")
"""Names that families give to the norm behind the last block, beside the list of blocks."""


@dataclass(frozen=True, kw_only=True)
class OutputHead:
    """The final norm's gain and the unembedding of a language model.

    Args:
        gain: factor of each dimension, fp32 `[width]`.
        centres: whether the norm subtracts the mean over dimensions.
        unembedding: fp32 `[vocabulary, width]`.
    """

    gain: Tensor
    centres: bool
    unembedding: Tensor

    def effects(self, directions: Tensor) -> Tensor:
        """Returns the direct effect of directions `[n, width]` on each logit, fp32 `[n, vocabulary]`.

        It is that of a norm with scale 1: ratios between tokens are those of the model, the absolute size is not.
        """
        if self.centres:
            directions = directions - directions.mean(1, keepdim=True)
        return (directions * self.gain) @ self.unembedding.T


def output_head(model: nn.Module) -> OutputHead | None:
    """Returns the output head of a causal language model; None if it has no unembedding.

    A model without a norm behind its blocks has a gain of ones.
    """
    embeddings = getattr(model, "get_output_embeddings", lambda: None)()
    weight = getattr(embeddings, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        return None
    unembedding = weight.detach().float()
    gain, centres = _measured(_final_norm(model), unembedding.shape[1], weight)
    return OutputHead(gain=gain, centres=centres, unembedding=unembedding)


def _final_norm(model: nn.Module) -> nn.Module | None:
    path = blocks_path(model)
    if path is None:
        return None
    parent = model.get_submodule(path.rpartition(".")[0])
    children = dict(parent.named_children())
    return next((children[name] for name in _FINAL_NORMS if name in children), None)


@torch.no_grad()
def _measured(norm: nn.Module | None, width: int, like: Tensor) -> tuple[Tensor, bool]:
    """Returns the gain of a norm, fp32 `[width]`, and whether it subtracts the mean.

    On a pattern of 1 and -1 both kinds of norms have the scale 1. Its sum is 0, or for an odd width its last element is
    0, so that subtracting the mean changes nothing.
    """
    if norm is None:
        return torch.ones(width, device=like.device), False
    signs = torch.ones(width, dtype=like.dtype, device=like.device)
    signs[1::2] = -1
    if width % 2:  # one dimension would be left over: it is measured with the pattern shifted by one
        shifted = signs.roll(1)
        signs[-1] = shifted[0] = 0
        first, second = _gain(norm, signs), _gain(norm, shifted)
        gain = torch.where(signs != 0, first, second)
    else:
        gain = _gain(norm, signs)
    centres = torch.allclose(norm(signs[None] + 3)[0].float(), norm(signs[None])[0].float(), rtol=1e-2, atol=1e-3)
    return gain, centres


def _gain(norm: nn.Module, signs: Tensor) -> Tensor:
    """Returns the gain where `signs` is not 0; the bias of the norm cancels in the difference."""
    scale = (signs != 0).float().mean().sqrt()
    difference = (norm(signs[None])[0].float() - norm(-signs[None])[0].float()) / 2
    gain: Tensor = difference * signs.float() * scale
    return gain
