"""Checks that DeepSpeed uses the mesh as it is, since otherwise it trains something else without any error.

Before the first step, the groups and tags are looked up in DeepSpeed's own objects. The first update then shows their
effect: DeepSpeed's global gradient norm must be the one that follows from the gradients.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from distsae.errors import CannotContinue, WrongInput
from distsae.model import FeatureShard
from distsae.parallel import Mesh

__all__ = ["global_norm", "refuse_misunderstood_mesh", "refuse_other_norm"]

_REPLICATED = "b_dec"
_TOLERANCE = 1e-3
_ROWS = 1 << 10


def refuse_misunderstood_mesh(engine: Any, shard: FeatureShard, mesh: Mesh) -> None:  # noqa: ANN401  (DeepSpeed is untyped)
    """Compares DeepSpeed's groups and tags with the mesh. Collective.

    Args:
        engine: engine that `deepspeed.initialize` returned.
        shard: parameters of the engine.
        mesh: the mesh, as this rank sees it.

    Raises:
        WrongInput: on every rank, if any rank finds a difference.
    """
    by_rank: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(by_rank, _misunderstanding(engine, shard, mesh))
    for rank, problem in enumerate(by_rank):
        if problem:
            import deepspeed

            raise WrongInput(
                f"`engine` (=deepspeed) must see the mesh of {mesh.data.size} x {mesh.feature.size} (data x feature) "
                f"processes; got {problem} on rank {rank} from DeepSpeed {deepspeed.__version__}; use another version "
                "of DeepSpeed, or `engine` plain"
            )


def _misunderstanding(engine: Any, shard: FeatureShard, mesh: Mesh) -> str:  # noqa: ANN401
    """Returns the first difference that this rank finds, for a message; empty if there is none."""
    from deepspeed.runtime.utils import is_model_parallel_parameter

    assert mesh.device_mesh is not None
    optimizer, processes = engine.optimizer, dist.get_world_size()
    if engine.dp_world_size * engine.mp_world_size != processes:
        return f"{engine.dp_world_size} x {engine.mp_world_size} for {processes} processes"
    groups = {"data": optimizer.dp_process_group, "feature": optimizer.model_parallel_group}
    for name, group in groups.items():
        axis = getattr(mesh, name)
        ranks = [dist.get_rank()] if group is None else dist.get_process_group_ranks(group)
        expected = dist.get_process_group_ranks(mesh.device_mesh.get_group(name))
        if ranks != expected or len(ranks) != axis.size or ranks.index(dist.get_rank()) != axis.rank:
            return f"ranks {ranks} as the {name} axis instead of {expected}"
    for name, parameter in shard.named_parameters():
        if is_model_parallel_parameter(parameter) == (name == _REPLICATED):
            return f"{name} as " + ("sharded" if name == _REPLICATED else "replicated")
    return ""


def global_norm(gradients: dict[str, Tensor], mesh: Mesh) -> float:
    """Returns the norm of the gradients of the global batch, with `b_dec` counted once. Collective.

    Args:
        gradients: gradients from the tokens of this data rank, by parameter; not changed.
        mesh: the mesh, as this rank sees it.
    """
    squares = {name: _square_sum(mesh.data.sum(part.clone())) for name, part in gradients.items()}
    replicated = squares.pop(_REPLICATED)
    return math.sqrt(float(mesh.feature.sum(torch.stack(list(squares.values())).sum()) + replicated))


def _square_sum(gradient: Tensor) -> Tensor:
    """Returns the sum of squares in fp64, a few rows at a time; in fp32 it is off by 0.3% for 25 million numbers."""
    parts = [rows.double().square().sum() for rows in torch.split(gradient, _ROWS)]
    return torch.stack(parts).sum()


def refuse_other_norm(reported: float, expected: float) -> None:
    """Compares the global gradient norm that DeepSpeed reports with the expected one.

    Args:
        reported: norm that DeepSpeed reports.
        expected: norm of the gradients, from `global_norm`.

    Raises:
        CannotContinue: the difference is larger than rounding explains.
    """
    if math.isfinite(expected) and not abs(reported - expected) <= _TOLERANCE * expected:
        raise CannotContinue(
            f"at the first update DeepSpeed found a global gradient norm of {reported:.6g} where the gradients have "
            f"{expected:.6g}: it trains something else; use another version of DeepSpeed, or `engine` plain"
        )
