"""An SAE as SAEBench takes one: the same encoder and decoder, with a config that it may write into.

SAEBench sets fields of `cfg` before it runs, and looks activations up by the hook names of TransformerLens. The config
of an `SAE` is frozen and has names of its own, so what is handed over is a view of the SAE with another config.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from distsae.errors import WrongInput
from distsae.model import SAE
from distsae.model.formats.hook_spelling import to_transformer_lens

__all__ = ["BenchConfig", "BenchSAE"]


@dataclasses.dataclass(kw_only=True)
class BenchConfig:
    """What SAEBench asks an SAE's `cfg` for; it writes into some of it.

    Args:
        d_in: width of the activations.
        d_sae: number of features.
        hook_name: name of the hook, as TransformerLens spells it.
        hook_layer: number of the block.
        hook_head_index: always None.
        model_name: name of the language model.
        architecture: `topk` or `jumprelu`.
        dtype: name of the dtype of the weights.
        device: name of the device.
        context_size: number of tokens in a context.
        prepend_bos: whether contexts begin with BOS.
        normalize_activations: always `none`: the SAE takes raw activations.
        apply_b_dec_to_input: whether the decoder bias is subtracted from the input.
    """

    d_in: int
    d_sae: int
    hook_name: str
    hook_layer: int
    model_name: str
    architecture: str
    dtype: str
    device: str
    context_size: int
    prepend_bos: bool
    hook_head_index: int | None = None
    normalize_activations: str = "none"
    apply_b_dec_to_input: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain values."""
        return dataclasses.asdict(self)


class BenchSAE(nn.Module):
    """A view of an SAE for SAEBench: `run_eval(..., [("name", BenchSAE(sae))])`.

    Args:
        sae: the SAE; its weights are shared.

    Raises:
        WrongInput: the SAE's hook has no place in TransformerLens.
    """

    def __init__(self, sae: SAE) -> None:
        super().__init__()
        hook = to_transformer_lens(sae.cfg.hook_name)
        if sae.cfg.hook_layer is None or hook == sae.cfg.hook_name:
            raise WrongInput(
                f"`sae` must be of a hook that TransformerLens has; got {sae.cfg.hook_name or 'an unknown one'}; train "
                "one on blocks.N.resid_post or the like"
            )
        self.sae = sae
        self.W_enc, self.W_dec = sae.W_enc, sae.W_dec  # the same parameters, so that moving one moves the other
        self.b_enc, self.b_dec = sae.b_enc, sae.b_dec
        self.cfg = BenchConfig(
            d_in=sae.cfg.d_in,
            d_sae=sae.cfg.d_sae,
            hook_name=hook,
            hook_layer=sae.cfg.hook_layer,
            model_name=sae.cfg.model_name,
            architecture=sae.cfg.architecture,
            dtype=sae.cfg.dtype,
            device=str(sae.device),
            context_size=sae.cfg.context_size,
            prepend_bos=sae.cfg.prepend_bos,
        )

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.sae.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.sae.dtype

    def encode(self, x: Tensor) -> Tensor:
        """Returns feature activations, `[..., d_sae]`."""
        return self.sae.encode(x)

    def decode(self, feature_acts: Tensor) -> Tensor:
        """Returns the reconstruction of the activations that were encoded last, `[..., d_in]`."""
        return self.sae.decode(feature_acts)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the reconstruction of activations, `[..., d_in]`."""
        reconstruction: Tensor = self.sae(x)
        return reconstruction
