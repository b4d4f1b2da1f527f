"""Faults of a distributed step, planted into the engines: each trains something else without any error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import pytest

from distsae.collective import Collective
from distsae.parallel import Mesh
from distsae.training import Gradients
from distsae.training.engines import deepspeed as deepspeed_engine
from distsae.training.engines import plain as plain_engine

__all__ = ["CHECKS", "Fault", "planted"]

Fault = Literal[
    "none", "wrong axis", "a rank gathers nothing", "untagged shard", "tagged b_dec", "no mpu", "no data axis"
]
CHECKS = ("refuse_misunderstood_mesh", "refuse_other_norm")
"""Names of the deepspeed engine's checks, which find its faults."""


@contextmanager
def planted(fault: Fault, unchecked: Sequence[str]) -> Iterator[None]:
    """Plants a fault into the engines of this process.

    Args:
        fault: fault to plant.
        unchecked: checks of the deepspeed engine to switch off, unless the fault is "none".
    """
    with pytest.MonkeyPatch.context() as patch:
        if fault != "none":
            for check in unchecked:
                patch.setattr(deepspeed_engine, check, lambda *_: None)
        match fault:
            case "wrong axis":
                _exchange_axes(patch)
            case "a rank gathers nothing":
                _gather_nothing(patch)
            case "untagged shard":
                patch.setattr(deepspeed_engine, "_SHARDED", ())
            case "tagged b_dec":
                patch.setattr(deepspeed_engine, "_SHARDED", ("W_enc", "W_dec", "b_enc", "b_dec"))
            case "no mpu":
                _drop_mpu(patch)
            case "no data axis":
                patch.setattr(deepspeed_engine._MeshMpu, "get_data_parallel_group", lambda mpu: mpu._feature)
                patch.setattr(deepspeed_engine._MeshMpu, "get_data_parallel_world_size", lambda mpu: 1)
        yield


def _exchange_axes(patch: pytest.MonkeyPatch) -> None:
    """Engines take the feature axis for the data axis, and the other way round."""

    class Exchanged(deepspeed_engine._MeshMpu):
        def __init__(self, mesh: Mesh) -> None:
            super().__init__(mesh)
            self._data, self._feature = self._feature, self._data

    build = plain_engine.PlainEngine.__init__

    def build_exchanged(engine, shard, mesh, *rest):
        build(engine, shard, replace(mesh, data=mesh.feature, feature=mesh.data), *rest)

    patch.setattr(deepspeed_engine, "_MeshMpu", Exchanged)
    patch.setattr(plain_engine.PlainEngine, "__init__", build_exchanged)


def _gather_nothing(patch: pytest.MonkeyPatch) -> None:
    """The last data rank takes part in the exchange, but then uses only its own gradients."""
    gathered = Gradients.gathered

    def own_only(gradients: Gradients, data: Collective) -> Gradients:
        whole = gathered(gradients, data)
        return gradients if data.rank == data.size - 1 else whole

    patch.setattr(Gradients, "gathered", own_only)


def _drop_mpu(patch: pytest.MonkeyPatch) -> None:
    """DeepSpeed gets no `mpu`, so it takes all ranks for data ranks."""
    import deepspeed
    from deepspeed.utils import groups

    initialize = deepspeed.initialize
    patch.setattr(deepspeed, "initialize", lambda mpu, **rest: initialize(**rest))
    # DeepSpeed keeps the mpu of the last engine, and groups of the last world.
    patch.setattr(groups, "mpu", None)
    patch.setattr(groups, "_WORLD_GROUP", None)
