"""dictionary_learning's own `BatchTopKTrainer.update`.

Its clipping to a gradient norm of 1, its projection of the decoder gradient and its count of who fired cannot be
turned off. No feature is dead within so few steps, so there is no auxiliary loss. From step 1001 on it also tracks a
threshold in each step, which is not measured.
"""

from __future__ import annotations

from importlib.metadata import version

from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from torch import Tensor

from tests.benchmarks.peers.contestant import Data
from tests.benchmarks.peers.problem import Size

__all__ = ["build"]


class _DictionaryLearning:
    version, warmup = version("dictionary-learning"), 1

    def __init__(self, size: Size, data: Data) -> None:
        self._done, self._variance = 0, data.variance
        self._trainer = BatchTopKTrainer(
            steps=1_000_000,
            activation_dim=size.d_in,
            dict_size=size.d_sae,
            k=size.k,
            layer=0,
            lm_name="none",
            lr=size.rate,
            auxk_alpha=0.0,
            warmup_steps=0,
            seed=0,
            device="cpu",
        )

    def step(self, x: Tensor) -> float:
        """Does one step; the first also sets `b_dec` to the geometric median."""
        loss: float = self._trainer.update(self._done, x)
        self._done += 1
        return loss / self._variance


def build(size: Size, data: Data) -> _DictionaryLearning:
    """Returns the trainer."""
    return _DictionaryLearning(size, data)
