"""SAELens' own `SAETrainer.step` on its `BatchTopKTrainingSAE`.

Its clipping to a gradient norm of 1 and its count of who fired cannot be turned off. Scores are rescaled by decoder
norms instead of normalising rows, as is its default. No feature is dead within so few steps, so there is no auxiliary
loss whatever its coefficient.
"""

from __future__ import annotations

from collections.abc import Iterator

import sae_lens
import torch
from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from tests.benchmarks.peers.contestant import Data
from tests.benchmarks.peers.problem import Size

__all__ = ["build"]


class _SAELens:
    version, warmup = sae_lens.__version__, 1

    def __init__(self, size: Size, data: Data) -> None:
        torch.manual_seed(0)
        config = BatchTopKTrainingSAEConfig(d_in=size.d_in, d_sae=size.d_sae, k=size.k, aux_loss_coefficient=0.0)
        sae = BatchTopKTrainingSAE(config)
        with torch.no_grad():
            sae.b_dec.copy_(data.mean)
        nothing: Iterator[Tensor] = iter(())
        training = SAETrainerConfig(
            total_training_samples=size.tokens * 1_000_000,
            train_batch_size_samples=size.tokens,
            lr=size.rate,
            lr_end=size.rate,
            logger=LoggingConfig(log_to_wandb=False),
        )
        self._trainer, self._variance = SAETrainer(training, sae, nothing), data.variance

    def step(self, x: Tensor) -> float:
        """Does one step; `fit` counts steps itself."""
        loss = self._trainer.step(x).losses["mse_loss"]
        self._trainer.n_training_steps += 1
        return float(loss.detach()) / self._variance


def build(size: Size, data: Data) -> _SAELens:
    """Returns the trainer."""
    return _SAELens(size, data)
