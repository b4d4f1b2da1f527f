"""The mesh: tokens are split over the data axis, features over the feature axis."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from distsae.allocation import Placement
from distsae.collective import Collective, Solo
from distsae.errors import WrongInput
from distsae.parallel.group import GroupCollective

__all__ = ["Mesh", "MeshConfig", "build_mesh"]


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How the processes of a run share the work.

    Args:
        data: ranks that share the tokens of a batch; each holds all tokens of its part.
        feature: ranks that share the features; each holds `d_sae / feature` of them. If that is not whole, the first
            ranks hold one more.
    """

    data: int = 1
    feature: int = 1

    def __post_init__(self) -> None:
        for name in ("data", "feature"):
            if getattr(self, name) < 1:
                raise WrongInput(f"`mesh.{name}` (={getattr(self, name)}) must be at least 1")


@dataclass(frozen=True)
class Mesh:
    """This process's place in the mesh and the groups it belongs to.

    Args:
        data: ranks with the same features and other tokens.
        feature: ranks with the same tokens and other features.
        world: all ranks.
        device_mesh: torch's mesh with dims `("data", "feature")`; None for one process.
    """

    data: Collective
    feature: Collective
    world: Collective
    device_mesh: DeviceMesh | None

    def features(self, d_sae: int) -> range:
        """Returns the global indices of this rank's features."""
        return self.feature_ranges(d_sae)[self.feature.rank]

    def feature_ranges(self, d_sae: int) -> list[range]:
        """Returns the features of each feature rank: consecutive ranges, the first `d_sae % size` one longer."""
        share, longer = divmod(d_sae, self.feature.size)
        starts = [rank * share + min(rank, longer) for rank in range(self.feature.size + 1)]
        return [range(*ends) for ends in pairwise(starts)]

    def placement(self, d_sae: int, tokens: int) -> Placement:
        """Returns where this rank's scores lie in a batch of `tokens` tokens a data rank."""
        return Placement(
            feature=self.feature,
            data=self.data,
            world=self.world,
            first_feature=self.features(d_sae).start,
            first_token=self.data.rank * tokens,
            d_sae=d_sae,
        )

    def groups(self) -> list[dist.ProcessGroup]:
        """Returns torch's groups of the axes and of all processes; none for one process."""
        if self.device_mesh is None:
            return []
        assert dist.group.WORLD is not None
        return [self.device_mesh.get_group("data"), self.device_mesh.get_group("feature"), dist.group.WORLD]

    def aside(self) -> dist.ProcessGroup | None:
        """Returns a new CPU group of all processes, to talk in beside training; None for one process. Collective."""
        return dist.new_group(backend="gloo") if self.device_mesh is not None else None


def build_mesh(config: MeshConfig, processes: int, device_type: str) -> Mesh:
    """Lays the processes of the job out on the mesh; feature ranks are neighbours.

    Args:
        config: sizes of the axes.
        processes: number of processes of the job.
        device_type: `"cpu"` or `"cuda"`.

    Raises:
        WrongInput: the axes do not multiply to the number of processes.
    """
    wanted = config.data * config.feature
    if wanted != processes:
        raise WrongInput(
            f"`mesh.data` * `mesh.feature` (={config.data} * {config.feature}) must equal the number of processes; "
            f"got {processes}; start {wanted} processes with `accelerate launch --num_processes {wanted} ...`, or "
            "change the mesh"
        )
    if processes == 1:
        return Mesh(Solo(), Solo(), Solo(), None)
    device_mesh = init_device_mesh(device_type, (config.data, config.feature), mesh_dim_names=("data", "feature"))
    world = dist.group.WORLD
    assert world is not None

    def axis(name: str) -> Collective:
        return GroupCollective(device_mesh.get_group(name)) if device_mesh[name].size() > 1 else Solo()

    return Mesh(axis("data"), axis("feature"), GroupCollective(world), device_mesh)
