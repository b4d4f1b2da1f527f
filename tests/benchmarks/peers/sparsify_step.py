"""Sparsify's `SparseCoder` with its fused encoder, in the step that its `Trainer.fit` does for one SAE.

`Trainer` needs a language model and its data, so its step is written out here (`sparsify/trainer.py`, `fit`: the part
of `hook` after the mask, and what follows `substep == 0`), with `optimizer="adam"`, `loss_fn="fvu"` and neither
auxiliary loss nor wandb, which are its defaults but for the optimizer: torch's Adam, as it takes without bitsandbytes.
It is Token Choice, and it selects per token: it has no batch-wide rule.
"""

from __future__ import annotations

from importlib.metadata import version

import torch
from sparsify.config import SparseCoderConfig
from sparsify.sparse_coder import SparseCoder
from torch import Tensor

from tests.benchmarks.peers.contestant import Data
from tests.benchmarks.peers.problem import Size

__all__ = ["build"]


class _Sparsify:
    version, warmup = version("eai-sparsify"), 1

    def __init__(self, size: Size, data: Data) -> None:
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high")  # as `fit` begins
        self._sae = SparseCoder(size.d_in, SparseCoderConfig(num_latents=size.d_sae, k=size.k), dtype=torch.float32)
        self._sae.b_dec.data = data.mean.clone()  # there: of the first batch
        self._adam = torch.optim.Adam([{"params": self._sae.parameters(), "lr": size.rate}])
        self._since_fired = torch.zeros(size.d_sae, dtype=torch.long)
        self._did_fire = torch.zeros(size.d_sae, dtype=torch.bool)

    def step(self, x: Tensor) -> float:
        """Does one step."""
        sae = self._sae
        sae.set_decoder_norm_to_unit_norm()
        total_variance = (x - x.mean(0)).pow(2).sum()
        out = sae(x=x, y=x, dead_mask=None, total_variance=total_variance)
        self._did_fire[out.latent_indices.flatten()] = True
        fvu = float(out.fvu.detach())
        (out.fvu + 0.0 * out.auxk_loss + out.multi_topk_fvu / 8).backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        self._adam.step()
        self._adam.zero_grad()
        with torch.no_grad():
            self._since_fired += x.shape[0]
            self._since_fired[self._did_fire] = 0
            self._did_fire.zero_()
        return fvu


def build(size: Size, data: Data) -> _Sparsify:
    """Returns the trainer."""
    return _Sparsify(size, data)
