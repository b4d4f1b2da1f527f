"""A pretended GPU: programs for CUDA run here without a device, and their work for it is counted.

    with pretended_cuda():
        x = torch.randn(4, device=CUDA)     # says cuda:0, refuses CPU tensors, is computed on the CPU
    LEDGER.launches, LEDGER.waits, LEDGER.bytes_at

It finds what a GPU would refuse: tensors of two devices, operations without a CUDA kernel, collectives that NCCL cannot
do. It counts what would make it slow: launches, waits of the CPU, bytes. It finds no fault of a driver or a compiler.
"""

from tests.pretended_cuda.ledger import LEDGER, Ledger
from tests.pretended_cuda.pretending import pretended_cuda
from tests.pretended_cuda.tensors import CUDA, OnCuda

__all__ = ["CUDA", "LEDGER", "Ledger", "OnCuda", "pretended_cuda"]
