"""Whether DeepSpeed has understood the mesh: it trains something else, and says nothing, if it has not.

What it was told is looked up in its own objects before the first step. The first update then shows what it makes of
that: its global gradient norm must be the one that follows from our own gradients.
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
    """Compares the groups and tags that DeepSpeed goes by with the mesh; every rank calls it.

    Args:
        engine: what `deepspeed.initialize` returned.
        shard: the parameters.
        mesh: this process's place.

    Raises:
        WrongInput: on every rank, if any of them finds a difference.
    """
    found: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, _misunderstanding(engine, shard, mesh))
    for rank, problem in enumerate(found):
        if problem:
            import deepspeed

            raise WrongInput(
                f"`engine` (=deepspeed) must see the mesh of {mesh.data.size} x {mesh.feature.size} (data x feature) "
                f"processes; got {problem} on rank {rank} from DeepSpeed {deepspeed.__version__}; use another version "
                "of DeepSpeed, or `engine` plain"
            )


def _misunderstanding(engine: Any, shard: FeatureShard, mesh: Mesh) -> str:  # noqa: ANN401
    from deepspeed.runtime.utils import is_model_parallel_parameter

    assert mesh.device_mesh is not None
    optimizer, processes = engine.optimizer, dist.get_world_size()
    if engine.dp_world_size * engine.mp_world_size != processes:
        return f"{engine.dp_world_size} x {engine.mp_world_size} for {processes} processes"
    groups = {"data": optimizer.dp_process_group, "feature": optimizer.model_parallel_group}
    for axis, group in groups.items():
        ours, seen = getattr(mesh, axis), [dist.get_rank()] if group is None else dist.get_process_group_ranks(group)
        expected = dist.get_process_group_ranks(mesh.device_mesh.get_group(axis))
        if seen != expected or len(seen) != ours.size or seen.index(dist.get_rank()) != ours.rank:
            return f"ranks {seen} as the {axis} axis instead of {expected}"
    for name, parameter in shard.named_parameters():
        if is_model_parallel_parameter(parameter) == (name == _REPLICATED):
            return f"{name} as " + ("sharded" if name == _REPLICATED else "replicated")
    return ""


def global_norm(gradients: dict[str, Tensor], mesh: Mesh) -> float:
    """Returns the norm of the global batch's gradients, `b_dec` counted once; every rank calls it.

    Args:
        gradients: of this data rank's tokens, by parameter; they are left as they are.
        mesh: this process's place.
    """
    squares = {name: _square_sum(mesh.data.sum(part.clone())) for name, part in gradients.items()}
    replicated = squares.pop(_REPLICATED)
    return math.sqrt(float(mesh.feature.sum(torch.stack(list(squares.values())).sum()) + replicated))


def _square_sum(gradient: Tensor) -> Tensor:
    """Returns the sum of squares in fp64, some rows at a time; in fp32 it is off by 0.3% at 25 million numbers."""
    parts = [rows.double().square().sum() for rows in torch.split(gradient, _ROWS)]
    return torch.stack(parts).sum()


def refuse_other_norm(theirs: float, ours: float) -> None:
    """Compares DeepSpeed's global gradient norm with ours.

    Raises:
        CannotContinue: they are further apart than rounding explains.
    """
    if math.isfinite(ours) and not abs(theirs - ours) <= _TOLERANCE * ours:
        raise CannotContinue(
            f"at the first update DeepSpeed found a global gradient norm of {theirs:.6g} where the gradients have "
            f"{ours:.6g}: it does not train what it should; use another version of DeepSpeed, or `engine` plain"
        )
