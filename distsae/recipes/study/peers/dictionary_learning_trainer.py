"""dictionary_learning's own `BatchTopKTrainer.update`, with the schedule of its demo: the last fifth decays to 0.

Its warm-up of 1000 steps is shortened to a twentieth of a short training. `b_dec` starts at the geometric median of the
first batch, gradients are clipped to norm 1. Options are arguments of the trainer, and `dead_feature_threshold`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from torch import Tensor

__all__ = ["build"]

_WARMUP = 1000


class _DictionaryLearningTrainer:
    def __init__(self, job: dict[str, Any]) -> None:
        steps, options = job["steps"], dict(job["options"])
        keys: dict[str, Any] = {
            "steps": steps,
            "activation_dim": job["d_in"],
            "dict_size": job["d_sae"],
            "k": job["k"],
            "layer": 0,
            "lm_name": "none",
            "lr": job["lr"],
            "warmup_steps": min(_WARMUP, steps // 20),
            "decay_start": steps * 4 // 5,
            "seed": job["seed"],
            "device": job["device"],
        }
        dead_after = options.pop("dead_feature_threshold", None)
        self._trainer = BatchTopKTrainer(**{**keys, **options})
        if dead_after is not None:
            self._trainer.dead_feature_threshold = dead_after
        self._done = 0
        self.facts = {"dictionary-learning": version("dictionary-learning"), **self._trainer.config}

    def step(self, x: Tensor) -> float:
        """Does one step; its loss is the squared error, and the auxiliary loss once features are dead."""
        loss: float = self._trainer.update(self._done, x)
        self._done += 1
        return loss

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """Its threshold is -1 before step `threshold_start_step`."""
        sae = self._trainer.ae
        return {
            "W_enc": sae.encoder.weight.T,
            "W_dec": sae.decoder.weight.T,
            "b_enc": sae.encoder.bias,
            "b_dec": sae.b_dec,
            "threshold": sae.threshold,
        }


def build(job: dict[str, Any]) -> _DictionaryLearningTrainer:
    """Returns the trainer of a job."""
    return _DictionaryLearningTrainer(job)
