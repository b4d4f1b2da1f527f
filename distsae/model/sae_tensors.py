"""The tensors that an SAE is made of: their shapes follow from its config."""

from __future__ import annotations

from torch import Tensor

from distsae.errors import WrongInput
from distsae.model.sae_config import SAEConfig
from distsae.model.sae_digest import DTYPES
from distsae.model.training_rule import needs_threshold

__all__ = ["check_tensors"]


def check_tensors(
    cfg: SAEConfig,
    W_enc: Tensor,
    W_dec: Tensor,
    b_enc: Tensor,
    b_dec: Tensor,
    threshold: Tensor | None,
    quota_per_token: Tensor | None,
) -> None:
    """Checks that tensors go with a config; they are described at `SAE`.

    Raises:
        WrongInput: a tensor has another shape than `cfg` asks for, a rule with thresholds has none, or the weights have
            a dtype of another kind.
    """
    expected = {
        "W_enc": (cfg.d_in, cfg.d_sae),
        "W_dec": (cfg.d_sae, cfg.d_in),
        "b_enc": (cfg.d_sae,),
        "b_dec": (cfg.d_in,),
        "threshold": (cfg.d_sae,),
        "quota_per_token": (cfg.d_sae,),
    }
    given = (W_enc, W_dec, b_enc, b_dec, threshold, quota_per_token)
    for (name, shape), tensor in zip(expected.items(), given, strict=True):
        if tensor is not None and tuple(tensor.shape) != shape:
            raise WrongInput(f"`{name}` must have shape {shape}; got {tuple(tensor.shape)}")
    if needs_threshold(cfg.allocation) and threshold is None:
        raise WrongInput(f"`threshold` must be given for `allocation` (={cfg.allocation}); got None")
    if W_enc.dtype not in DTYPES:
        raise WrongInput(f"`W_enc` must have one of the dtypes {', '.join(DTYPES.values())}; got {W_enc.dtype}")
