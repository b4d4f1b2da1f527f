"""The meshes that some devices can form, each with its memory and its time, and which of them is best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from distsae.batches import STREAMS
from distsae.errors import WrongInput
from distsae.parallel import MeshConfig
from distsae.planning.cluster.config import PlanConfig
from distsae.planning.exchanges import Exchange
from distsae.planning.items import Item, peak
from distsae.planning.largest import Memory, fits
from distsae.planning.step_seconds import StepSeconds
from distsae.planning.step_shape import StepShape

__all__ = ["MeshPlan", "best", "possible_meshes"]


@dataclass(frozen=True)
class MeshPlan:
    """What a run needs on one mesh.

    Args:
        mesh: the mesh.
        shape: sizes of a step.
        items: memory of the first rank.
        memory: memory that there is.
        step: seconds of a step.
        exchanges: its collectives.
    """

    mesh: MeshConfig
    shape: StepShape
    items: tuple[Item, ...]
    memory: Memory
    step: StepSeconds
    exchanges: tuple[Exchange, ...]

    @property
    def fits(self) -> bool:
        """Whether the memory suffices."""
        return fits(self.items, self.memory)

    @property
    def rank_bytes(self) -> int:
        """Most memory of the first rank: of its GPU if there is one."""
        return peak(self.items, "device" if self.memory.device is not None else "host")

    @property
    def received(self) -> float:
        """Bytes that reach a rank in a step."""
        return sum(exchange.received for exchange in self.exchanges)

    @property
    def calls(self) -> int:
        """Collectives of a step."""
        return sum(exchange.calls for exchange in self.exchanges)


def possible_meshes(config: PlanConfig) -> list[MeshConfig]:
    """Returns the meshes that training would accept, the one with most feature ranks first.

    Raises:
        WrongInput: there is none.
    """
    found = [mesh for mesh in _factors(config.gpus) if _is_allowed(mesh, config)]
    if not found:
        wanted = f"`data` (={config.data}) times `feature` (={config.feature})"
        raise WrongInput(
            f"{wanted} must make the `gpus` (={config.gpus}), with a data axis that divides {STREAMS} and a feature "
            f"axis of at most `d_sae` (={config.d_sae}); got no such mesh; use a power of two, for example"
        )
    if config.engine == "deepspeed" and config.gpus == 1:
        raise WrongInput("`engine` (=deepspeed) must have at least two `gpus` to share state; use plain")
    return found


def best(plans: Iterable[MeshPlan]) -> list[MeshPlan]:
    """Returns the plans, the best first: those that fit before those that do not, and then the fastest.

    Where none fits, the one comes first that needs the least memory.
    """
    return sorted(plans, key=lambda plan: (not plan.fits, plan.step.whole if plan.fits else plan.rank_bytes))


def _factors(gpus: int) -> Iterator[MeshConfig]:
    for data in range(1, gpus + 1):
        if gpus % data == 0:
            yield replace(MeshConfig(), data=data, feature=gpus // data)


def _is_allowed(mesh: MeshConfig, config: PlanConfig) -> bool:
    return (
        STREAMS % mesh.data == 0
        and mesh.feature <= config.d_sae
        and config.data in (None, mesh.data)
        and config.feature in (None, mesh.feature)
    )
