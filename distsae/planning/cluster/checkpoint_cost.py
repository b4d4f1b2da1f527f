"""What checkpoints cost: their bytes, the time to write them, and whether that fits between two of them."""

from __future__ import annotations

from dataclasses import dataclass

from distsae.planning.cluster.hardware import Hardware
from distsae.planning.saving import saved_bytes
from distsae.training import TrainConfig

__all__ = ["CheckpointCost", "checkpoint_cost"]


@dataclass(frozen=True)
class CheckpointCost:
    """A checkpoint of a run.

    Args:
        bytes: bytes of all ranks together.
        seconds: seconds until all machines have written their share, while training goes on.
        copying: seconds for which training waits: until a GPU has handed its share to the host.
        interval: seconds from one checkpoint to the next.
        kept: bytes of the checkpoints that are kept.
    """

    bytes: int
    seconds: float
    copying: float
    interval: float
    kept: int

    @property
    def in_time(self) -> bool:
        """Whether it is written before the next one is due."""
        return self.seconds <= self.interval


def checkpoint_cost(config: TrainConfig, d_in: int, hardware: Hardware, step_seconds: float) -> CheckpointCost:
    """Returns the cost of a checkpoint; each machine writes what its ranks hold, and each data rank a share of it.

    Args:
        config: config of the run.
        d_in: width of the activations.
        hardware: its machines.
        step_seconds: seconds of a step.
    """
    ranks = config.mesh.data * config.mesh.feature
    size = config.sae.d_sae * saved_bytes(config, d_in) + 3 * 4 * d_in
    machines = -(-ranks // hardware.node_size)
    interval = config.checkpoint.every * step_seconds
    copying = size / ranks / (hardware.upload if hardware.gpu else hardware.bandwidth)
    return CheckpointCost(size, size / machines / hardware.disk, copying, interval, config.checkpoint.keep_last * size)
