"""sparsify's `SparseCoder` with its fused encoder, in the step and with the optimizer of its `Trainer`.

`Trainer` needs a language model and its data, so its step is written out here (`sparsify/trainer.py`: the part of
`hook` after the mask, and what follows `substep == 0` in `fit`). Its defaults: signed gradients with momentum 0.95,
wrapped by schedule-free averaging, no auxiliary loss, `b_dec` from the mean of the first batch. It is Token Choice.
Options: `optimizer` (signum or adam), `auxk_alpha`, `dead_feature_threshold`, `lr_warmup_steps`, `multi_topk`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from schedulefree import ScheduleFreeWrapper
from sparsify.config import SparseCoderConfig
from sparsify.sign_sgd import SignSGD
from sparsify.sparse_coder import SparseCoder
from torch import Tensor
from transformers import get_linear_schedule_with_warmup

__all__ = ["build"]

_OPTIONS = {
    "optimizer": "signum",
    "auxk_alpha": 0.0,
    "dead_feature_threshold": 10_000_000,
    "lr_warmup_steps": 1000,
    "multi_topk": False,
}
_BASE_RATES = {"signum": 5e-3, "adam": 2e-4}


class _SparsifyTrainer:
    def __init__(self, job: dict[str, Any]) -> None:
        unknown = set(job["options"]).difference(_OPTIONS)
        if unknown:
            raise ValueError(f"unknown options {sorted(unknown)}; known: {sorted(_OPTIONS)}")
        keys: dict[str, Any] = {**_OPTIONS, "lr_warmup_steps": min(1000, job["steps"] // 20), **job["options"]}
        torch.set_float32_matmul_precision("high")  # as `fit` begins
        config = SparseCoderConfig(num_latents=job["d_sae"], k=job["k"], multi_topk=keys["multi_topk"])
        self._sae = SparseCoder(job["d_in"], config, job["device"], dtype=torch.float32)
        rate = job["lr"]
        if rate is None:
            rate = _BASE_RATES[keys["optimizer"]] / (job["d_sae"] / (2**14)) ** 0.5
        self._optimizer: Any
        self._schedule: Any = None
        if keys["optimizer"] == "signum":
            self._optimizer = ScheduleFreeWrapper(
                SignSGD([{"params": self._sae.parameters(), "lr": rate}]), momentum=0.95
            )
            self._optimizer.train()
        else:
            self._optimizer = torch.optim.Adam([{"params": self._sae.parameters(), "lr": rate}])
            self._schedule = get_linear_schedule_with_warmup(self._optimizer, keys["lr_warmup_steps"], job["steps"])
        self._keys = keys
        self._begun = False
        self._since_fired = torch.zeros(job["d_sae"], dtype=torch.long, device=job["device"])
        self.facts = {"eai-sparsify": version("eai-sparsify"), "lr": rate, **keys}

    def step(self, x: Tensor) -> float:
        """Does one step."""
        sae, keys = self._sae, self._keys
        if not self._begun:
            sae.b_dec.data = x.mean(0)
            self._begun = True
        sae.set_decoder_norm_to_unit_norm()
        total_variance = (x - x.mean(0)).pow(2).sum()
        dead = self._since_fired > keys["dead_feature_threshold"] if keys["auxk_alpha"] > 0 else None
        out = sae(x=x, y=x, dead_mask=dead, total_variance=total_variance)
        (out.fvu + keys["auxk_alpha"] * out.auxk_loss + out.multi_topk_fvu / 8).backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._schedule is not None:
            self._schedule.step()
        with torch.no_grad():
            self._since_fired += x.shape[0]
            self._since_fired[out.latent_indices.flatten()] = 0
        return float(out.fvu.detach() * total_variance) / x.shape[0]

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """Averaged decoder rows are a little shorter than 1; it uses them as they are, and so does the SAE."""
        if self._keys["optimizer"] == "signum":
            self._optimizer.eval()
        sae = self._sae
        return {"W_enc": sae.encoder.weight.T, "W_dec": sae.W_dec, "b_enc": sae.encoder.bias, "b_dec": sae.b_dec}


def build(job: dict[str, Any]) -> _SparsifyTrainer:
    """Returns the trainer of a job."""
    return _SparsifyTrainer(job)
