"""The sizes of a step on a mesh, and the work of a rank that follows from them: formulas, without a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distsae.model import AllocationName
from distsae.training import TrainConfig

__all__ = ["StepShape", "shape_of", "work"]


@dataclass(frozen=True, kw_only=True)
class StepShape:
    """A step on a mesh.

    Args:
        d_in: width of the activation.
        d_sae: features over all ranks.
        tokens: of the global batch.
        k: mean matches per token.
        data: ranks that share the tokens.
        feature: ranks that share the features.
        k_aux: mean matches per token of the auxiliary reconstruction; 0 without one.
        allocation: rule that selects the matches.
        engine: engine that updates the weights.
        zero_stage: stage of ZeRO, with the deepspeed engine.
        divide_moments: whether data ranks divide the update, with the plain engine.
        gpu: whether the ranks have GPUs, which send more at once.
    """

    d_in: int
    d_sae: int
    tokens: int
    k: float
    data: int = 1
    feature: int = 1
    k_aux: float = 0
    allocation: AllocationName = "mutual_choice"
    engine: Literal["plain", "deepspeed"] = "plain"
    zero_stage: int = 1
    divide_moments: bool = False
    gpu: bool = False

    @property
    def ranks(self) -> int:
        """All processes."""
        return self.data * self.feature

    @property
    def own_tokens(self) -> int:
        """Tokens of a rank."""
        return self.tokens // self.data

    @property
    def own_features(self) -> int:
        """Features of the first rank."""
        return -(-self.d_sae // self.feature)

    @property
    def updating(self) -> int:
        """Ranks that divide the update of the same features."""
        return self.data if self.divide_moments else 1

    @property
    def own_matches(self) -> float:
        """Matches of a rank, auxiliary ones too, if they are spread evenly."""
        return (self.k + self.k_aux) * self.own_tokens / self.feature

    @property
    def reconstructions(self) -> int:
        """One, or two with the auxiliary one."""
        return 2 if self.k_aux else 1


def shape_of(config: TrainConfig, d_in: int, *, gpu: bool = False) -> StepShape:
    """Returns the sizes of a step of a run on a device, with the auxiliary loss in use."""
    aux = config.sae.k * config.auxiliary.k_per_k if config.aux != "none" else 0.0
    return StepShape(
        d_in=d_in,
        d_sae=config.sae.d_sae,
        tokens=config.batch_tokens,
        k=config.sae.k,
        data=config.mesh.data,
        feature=config.mesh.feature,
        k_aux=aux,
        allocation=config.allocation,
        engine=config.engine,
        zero_stage=config.deepspeed.zero_stage,
        divide_moments=config.optimizer.divide_moments and config.mesh.data > 1,
        gpu=gpu,
    )


def work(shape: StepShape) -> dict[str, float]:
    """Returns the work of a rank: numbers multiplied in the product, scores, numbers of matched rows, weights."""
    # The plain engine sums the gradients of the matches of all data ranks, on each of them or each for its share of the
    # features; DeepSpeed sums matrices.
    summing = shape.data / shape.updating if shape.engine == "plain" else 1
    return {
        "product": shape.own_tokens * shape.own_features * shape.d_in,
        "scores": shape.own_tokens * shape.own_features,
        # Rescored candidates, some twice as many as matches; decoded rows; dots with two vectors each.
        "matched": shape.own_matches * shape.d_in * (2 * 2 + 1 + 2),
        # Two row sums.
        "summed": shape.own_matches * summing * shape.d_in * 2,
        "weights": 2 * shape.own_features * shape.d_in / shape.updating,
    }
