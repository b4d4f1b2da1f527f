"""SAELens' own `SAETrainer.step` on its `BatchTopKTrainingSAE` or `MatryoshkaBatchTopKTrainingSAE`.

As its tutorials have it: Adam with betas 0.9 and 0.999, no warm-up, a linear decay over the last fifth, gradients
clipped to norm 1, its auxiliary loss. `b_dec` starts at 0 and decoder rows at norm 0.1, which are its defaults. Options
are fields of its config of the SAE or of `SAETrainerConfig`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import sae_lens
import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
)
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

__all__ = ["build"]

_RATE = 3e-4
_WIDTHS = (16, 8, 4, 2, 1)
"""Parts of the features that the nested levels of Matryoshka have, by default."""


class _SAELensTrainer:
    def __init__(self, job: dict[str, Any]) -> None:
        matryoshka = job["variant"] == "matryoshka"
        config_class = MatryoshkaBatchTopKTrainingSAEConfig if matryoshka else BatchTopKTrainingSAEConfig
        steps, tokens = job["steps"], job["batch_tokens"]
        options = dict(job["options"])
        of_sae = {field.name for field in dataclasses.fields(config_class)}
        sae_keys: dict[str, Any] = {"d_in": job["d_in"], "d_sae": job["d_sae"], "k": job["k"], "device": job["device"]}
        if matryoshka:
            widths = dict.fromkeys(max(job["d_sae"] // part, 1) for part in _WIDTHS)
            sae_keys["matryoshka_widths"] = list(widths)
        sae_keys |= {name: options.pop(name) for name in list(options) if name in of_sae}
        keys: dict[str, Any] = {
            "total_training_samples": steps * tokens,
            "train_batch_size_samples": tokens,
            "lr": job["lr"] if job["lr"] is not None else _RATE,
            "lr_decay_steps": steps // 5,
            "device": job["device"],
            **options,
        }
        keys.setdefault("lr_end", keys["lr"] / 10)
        nothing: Iterator[Tensor] = iter(())
        sae = (MatryoshkaBatchTopKTrainingSAE if matryoshka else BatchTopKTrainingSAE)(config_class(**sae_keys))
        config = SAETrainerConfig(**keys, logger=LoggingConfig(log_to_wandb=False))
        self._sae = sae.to(job["device"])
        self._trainer = SAETrainer(config, sae, nothing)
        self.facts = {"sae_lens": sae_lens.__version__, **keys, **sae_keys}

    def step(self, x: Tensor) -> float:
        """Does one step; `fit` counts steps itself."""
        self._trainer.maybe_reset_sparsity()
        found = self._trainer.step(x)
        self._trainer.n_training_steps += 1
        return float((found.sae_out.detach() - x).square().sum(1).mean())

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """Folds the norms of decoder rows into scores, by which it selects, and `b_dec` into the input."""
        sae = self._sae
        norm = sae.W_dec.norm(dim=1) if sae.cfg.rescale_acts_by_decoder_norm else torch.ones_like(sae.b_enc)
        b_enc = sae.b_enc if sae.cfg.apply_b_dec_to_input else sae.b_enc + sae.b_dec @ sae.W_enc
        return {
            "W_enc": sae.W_enc * norm,
            "W_dec": sae.W_dec / norm[:, None],
            "b_enc": b_enc * norm,
            "b_dec": sae.b_dec,
            "threshold": sae.topk_threshold,
        }


def build(job: dict[str, Any]) -> _SAELensTrainer:
    """Returns the trainer of a job."""
    return _SAELensTrainer(job)
