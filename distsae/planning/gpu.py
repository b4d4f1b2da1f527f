"""What a process on a GPU takes beside its tensors: the CUDA context, workspaces of cuBLAS, buffers of NCCL.

None of it is made by distsae, and all of it is estimated: it depends on the GPU, the driver and the versions of the
libraries. The plan takes the largest.
"""

from __future__ import annotations

from collections.abc import Iterator

from distsae.planning.items import ALWAYS, Facts, Item
from distsae.training import TrainConfig

__all__ = ["CONTEXT_BYTES", "CUDA_LIBRARIES_BYTES", "gpu_items"]

CONTEXT_BYTES = 700 << 20
"""Memory of a GPU that a context takes with the kernels that are loaded into it; half a GiB and more on an H100."""

CUDA_LIBRARIES_BYTES = 2 << 30
"""Host memory of a process that has loaded CUDA's libraries and started a context, beside what it takes on a CPU."""

_WORKSPACE_BYTES = 2 * (32 << 20)
"""Workspaces of cuBLAS and cuBLASLt: torch gives each stream 32 MiB on Hopper and later, 8 MiB before."""

_CONNECTION_BYTES = 4_194_304 + 524_288 + 4_915_200
"""Buffers of one connection of NCCL, of its protocols Simple, LL and LL128 (`DEFAULT_BUFFSIZE`,
`DEFAULT_LL_BUFFSIZE`, `DEFAULT_LL128_BUFFSIZE`)."""

_CONNECTIONS = 24 * 3
"""Connections of one communicator: the channels of a machine with NVSwitch, each with one of the ring and two of the
trees."""


def gpu_items(config: TrainConfig, facts: Facts) -> Iterator[Item]:
    """Yields what the libraries of a process on a GPU take there, and on the host if that is not measured yet."""
    if not facts.gpu:
        return
    yield Item("CUDA's libraries, estimated", facts.cuda_libraries_bytes, ALWAYS)
    yield Item("CUDA context, estimated", CONTEXT_BYTES, ALWAYS, "device")
    yield Item("cuBLAS workspaces", _WORKSPACE_BYTES, ALWAYS, "device")
    sizes = [config.mesh.data * config.mesh.feature, config.mesh.data, config.mesh.feature]
    communicators = sum(size > 1 for size in sizes)
    yield Item("NCCL buffers, estimated", communicators * _CONNECTIONS * _CONNECTION_BYTES, ALWAYS, "device")
