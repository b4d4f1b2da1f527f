"""Beginning from an SAE that exists: its features become the initial shard.

A finished SAE works on raw activations, training sees normalised ones; what `finish.py` folds into the weights is taken
out again here, with the normalisation of the store that is trained on now, which may be another one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.batches import Normalisation
from distsae.errors import WrongInput
from distsae.model import SAE, FeatureShard

__all__ = ["begin_from", "sae_to_begin_from"]

_ROWS = 1 << 12


@torch.no_grad()
def begin_from(path: str, shard: FeatureShard, d_sae: int, normalisation: Normalisation) -> None:
    """Fills a shard with its features of the SAE at `path`.

    Decoder rows are brought to unit norm; their norm moves into the encoder row and bias, so that the reconstruction
    stays. The file is mapped, not read: a process touches its own rows, and holds no more than its shard.

    Args:
        path: folder of an SAE, or of the run that trained it.
        shard: on any device.
        d_sae: features over all ranks.
        normalisation: what is done to the activations that the shard will see.

    Raises:
        WrongInput: there is no SAE at `path`, its shape is another, or a decoder row has no direction.
        TornData: a file is damaged.
    """
    sae = sae_to_begin_from(path, shard.W_enc.shape[1], d_sae)
    for first in range(0, len(shard.features), _ROWS):
        features = shard.features[first : first + _ROWS]
        theirs = slice(features.start, features.stop)
        rows = sae.W_dec[theirs].float()
        norm = torch.linalg.vector_norm(rows, dim=1)
        if not bool((norm.isfinite() & (norm > 0)).all()):
            raise WrongInput(f"`init` (={path}) must have decoder rows of finite, positive norm; train it again")
        ours: dict[str, Tensor] = {
            "W_enc": sae.W_enc[:, theirs].t().float() * norm[:, None],
            "W_dec": rows / norm[:, None],
            "b_enc": sae.b_enc[theirs].float() * norm * normalisation.scale,
        }
        for name, values in ours.items():
            getattr(shard, name)[first : first + len(features)] = values.to(shard.b_dec.device)
    shard.b_dec.copy_(normalisation.apply(sae.b_dec.to(torch.float32, copy=True)))


def sae_to_begin_from(path: str, d_in: int, d_sae: int) -> SAE:
    """Returns the SAE at `path`, whose weights are mapped and not read.

    Raises:
        WrongInput: there is none, or its shape is another.
        TornData: a file is damaged.
    """
    sae = SAE.load(path)
    if (sae.cfg.d_in, sae.cfg.d_sae) != (d_in, d_sae):
        raise WrongInput(
            f"`init` (={path}) must be an SAE of d_in {d_in} and d_sae {d_sae}; got d_in {sae.cfg.d_in} and d_sae "
            f"{sae.cfg.d_sae}; choose another SAE, or change `hook` or `sae.d_sae`"
        )
    return sae
