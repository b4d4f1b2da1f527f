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
    """How the processes of a run share the work: `data * feature` processes.

    Args:
        data: number of parts that the tokens of a batch are split into.
        feature: number of parts that the features are split into; each has `d_sae / feature` features. If that is not a
            whole number, the first parts have one feature more.
    """

    data: int = 1
    feature: int = 1

    def __post_init__(self) -> None:
        for name in ("data", "feature"):
            if getattr(self, name) < 1:
                raise WrongInput(f"`mesh.{name}` (={getattr(self, name)}) must be at least 1")

    def require_processes(self, processes: int) -> None:
        """Refuses a number of processes that does not fill the mesh.

        Raises:
            WrongInput: `data * feature` differs from `processes`.
        """
        wanted = self.data * self.feature
        if wanted != processes:
            raise WrongInput(
                f"`mesh.data` * `mesh.feature` (={self.data} * {self.feature}) must equal the number of processes; got "
                f"{processes}; start {wanted} with `accelerate launch --num_processes {wanted} ... -m distsae train "
                "...` (on CPU with a config file such as cluster_configs/cpu_2.yaml), or change the mesh"
            )


@dataclass(frozen=True)
class Mesh:
    """The mesh, as one rank sees it: the groups of ranks that this rank belongs to.

    Args:
        data: ranks with the same features as this one and other tokens.
        feature: ranks with the same tokens as this one and other features.
        world: all ranks.
        device_mesh: torch's mesh with the dims `("data", "feature")`; None for one process.
    """

    data: Collective
    feature: Collective
    world: Collective
    device_mesh: DeviceMesh | None

    def features(self, d_sae: int) -> range:
        """Returns the global indices of this rank's features."""
        return self.feature_ranges(d_sae)[self.feature.rank]

    def feature_ranges(self, d_sae: int) -> list[range]:
        """Returns the features of each feature rank: consecutive ranges, the first `d_sae % size` longer by one."""
        length, longer = divmod(d_sae, self.feature.size)
        starts = [rank * length + min(rank, longer) for rank in range(self.feature.size + 1)]
        return [range(*ends) for ends in pairwise(starts)]

    def placement(self, d_sae: int, tokens: int, left_out: int = 0) -> Placement:
        """Returns where the scores of this rank lie in a global batch.

        Args:
            d_sae: number of features over all ranks.
            tokens: number of tokens on each data rank.
            left_out: number of tokens of the global batch that have no share of the budget.
        """
        return Placement(
            feature=self.feature,
            data=self.data,
            world=self.world,
            first_feature=self.features(d_sae).start,
            first_token=self.data.rank * tokens,
            d_sae=d_sae,
            left_out=left_out,
        )

    def groups(self) -> list[dist.ProcessGroup]:
        """Returns torch's process groups of both axes and of all processes; none for one process."""
        if self.device_mesh is None:
            return []
        assert dist.group.WORLD is not None
        return [self.device_mesh.get_group("data"), self.device_mesh.get_group("feature"), dist.group.WORLD]

    def aside(self) -> dist.ProcessGroup | None:
        """Returns a new CPU group of all processes, for collectives that run beside training. Collective.

        None for one process.
        """
        return dist.new_group(backend="gloo") if self.device_mesh is not None else None


def build_mesh(config: MeshConfig, processes: int, device_type: str) -> Mesh:
    """Arranges the processes of a job in a mesh. Collective.

    The feature ranks of one data rank have consecutive global ranks.

    Args:
        config: sizes of the axes.
        processes: number of processes of the job.
        device_type: type of the device that each process works on, `"cpu"` or `"cuda"`.

    Raises:
        WrongInput: the processes do not fill the mesh.
    """
    config.require_processes(processes)
    if processes == 1:
        return Mesh(Solo(), Solo(), Solo(), None)
    device_mesh = init_device_mesh(device_type, (config.data, config.feature), mesh_dim_names=("data", "feature"))
    world = dist.group.WORLD
    assert world is not None

    def axis_group(name: str) -> Collective:
        return GroupCollective(device_mesh.get_group(name)) if device_mesh[name].size() > 1 else Solo()

    return Mesh(axis_group("data"), axis_group("feature"), GroupCollective(world), device_mesh)
