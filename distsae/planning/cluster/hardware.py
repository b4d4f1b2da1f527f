"""Rates and sizes of machines that a run can be planned for: from public data sheets, and the share that is reached.

No GPU has run this code, so the shares are assumed, and every time that follows is computed, not measured. A file of
`distsae check` replaces the rates of the device by measured ones. Sources, per GPU:

- H200 SXM: 141 GB at 4.8 TB/s, 989 TFLOP/s in bf16 (half of the 1,979 with sparsity), 67 in fp32, NVLink 900 GB/s both
  ways together (nvidia.com/en-us/data-center/h200).
- H100 SXM: 80 GB at 3.35 TB/s, the same rates (nvidia.com/en-us/data-center/h100). DGX H100 and H200: 8 GPUs, one
  400 Gbit/s ConnectX-7 each, 2 TB of memory, PCIe 5.0 x16 (docs.nvidia.com/dgx).
- A100 SXM 80 GB: 2,039 GB/s, 312 TFLOP/s in bf16, 19.5 in fp32, NVLink 600 GB/s (A100 data sheet). DGX A100 640 GB: 8
  GPUs, one 200 Gbit/s ConnectX-6 each, 2 TB of memory, PCIe 4.0 x16.
- L40S: 48 GB at 864 GB/s, 362 TFLOP/s in bf16 (half of the 733 with sparsity), 91.6 in fp32, PCIe 4.0 x16 and no NVLink
  (L40S data sheet). Servers differ; assumed are 8 GPUs, 100 Gbit/s of network each, 1 TB of memory.
- CPU: one core of the two-core machine on which docs/results.md was measured (`python -m tests.benchmarks.scaling`):
  rates of the parts of a step there. Assumed are 64 such cores with 256 GB in a machine, and 100 Gbit/s together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distsae.planning.links import GLOO, NCCL_NVLINK, NCCL_PCIE, WireProtocol

__all__ = ["HARDWARE", "Hardware", "HardwareName"]

HardwareName = Literal["h200", "h100", "a100", "l40s", "cpu"]

_PRODUCT_SHARE = 0.4
"""Share of the bf16 peak that a product reaches which looks through its scores: assumed."""

_MEMORY_SHARE = 0.75
"""Share of the memory's bandwidth: assumed."""

_LINK_SHARE = 0.6
"""Share of NVLink or PCIe that a ring reaches without the sums of NVSwitch, which distsae turns off: assumed."""

_NETWORK_SHARE = 0.8
"""Share of the network's rate: assumed."""


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Machines of one kind; rates are those that are taken to be reached.

    Args:
        name: name of the device.
        gpu: whether the device is a GPU; otherwise it is one core.
        memory_bytes: memory that a process may use: of its GPU, or its share of the machine's.
        node_size: devices of a machine.
        host_bytes: memory of a machine.
        products: floating-point operations per second of a bf16 product.
        exact_products: likewise in fp32.
        bandwidth: bytes per second of the device's memory.
        row_bandwidth: bytes per second of matched rows that are read, decoded and multiplied.
        inside: bytes per second that reach a device from those of its machine.
        between: bytes per second from other machines to one device.
        protocols: how collectives move their messages.
        upload: bytes per second from the host to a GPU.
        reading: bytes per second of stored rows that a process reads from the system's cache, checks and hands over.
        disk: bytes per second that a machine reads from the disk or file system of the store, and writes to it.
        launch: seconds of the CPU to launch a kernel; 0 without a GPU.
    """

    name: HardwareName
    gpu: bool = True
    memory_bytes: int
    node_size: int = 8
    host_bytes: int
    products: float
    exact_products: float
    bandwidth: float
    row_bandwidth: float
    inside: float
    between: float
    protocols: tuple[WireProtocol, ...]
    upload: float
    reading: float = 5e9
    disk: float = 10e9
    launch: float = 5e-6


def _gpu(
    name: HardwareName,
    *,
    gib: int,
    host_tb: float,
    bf16_tflops: float,
    fp32_tflops: float,
    memory_gb_s: float,
    link_gb_s: float,
    network_gbit_s: float,
    pcie_gb_s: float,
    protocols: tuple[WireProtocol, ...] = NCCL_NVLINK,
) -> Hardware:
    """Returns a GPU from the figures of its data sheet, in one direction each, and the memory that it leaves usable."""
    bandwidth = _MEMORY_SHARE * memory_gb_s * 1e9
    return Hardware(
        name=name,
        memory_bytes=gib << 30,
        host_bytes=round(host_tb * 1e12),
        products=_PRODUCT_SHARE * bf16_tflops * 1e12,
        exact_products=_PRODUCT_SHARE * fp32_tflops * 1e12,
        bandwidth=bandwidth,
        row_bandwidth=bandwidth,
        inside=_LINK_SHARE * link_gb_s * 1e9,
        between=_NETWORK_SHARE * network_gbit_s / 8 * 1e9,
        protocols=protocols,
        upload=_MEMORY_SHARE * pcie_gb_s * 1e9,
    )


_ROWS = (
    _gpu(
        "h200",
        gib=139,
        host_tb=2.0,
        bf16_tflops=989,
        fp32_tflops=67,
        memory_gb_s=4800,
        link_gb_s=450,
        network_gbit_s=400,
        pcie_gb_s=64,
    ),
    _gpu(
        "h100",
        gib=79,
        host_tb=2.0,
        bf16_tflops=989,
        fp32_tflops=67,
        memory_gb_s=3350,
        link_gb_s=450,
        network_gbit_s=400,
        pcie_gb_s=64,
    ),
    _gpu(
        "a100",
        gib=79,
        host_tb=2.0,
        bf16_tflops=312,
        fp32_tflops=19.5,
        memory_gb_s=2039,
        link_gb_s=300,
        network_gbit_s=200,
        pcie_gb_s=32,
    ),
    _gpu(
        "l40s",
        gib=44,
        host_tb=1.0,
        bf16_tflops=362,
        fp32_tflops=91.6,
        memory_gb_s=864,
        link_gb_s=32,
        network_gbit_s=100,
        pcie_gb_s=32,
        protocols=NCCL_PCIE,
    ),
    Hardware(
        name="cpu",
        gpu=False,
        memory_bytes=4 << 30,
        node_size=64,
        host_bytes=256 << 30,
        products=1.7e11,
        exact_products=6e10,
        bandwidth=1e10,
        row_bandwidth=4.5e10,
        inside=1e9,
        between=_NETWORK_SHARE * 100 / 8 * 1e9 / 64,
        protocols=GLOO,
        upload=1.0,
        reading=4e9,
        disk=2e9,
        launch=0.0,
    ),
)

HARDWARE: dict[str, Hardware] = {row.name: row for row in _ROWS}
"""The devices by name."""
