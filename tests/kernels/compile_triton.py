"""Compiles the Triton kernels, called as in a step, for GPUs that are not present; nothing is launched.

The interpreter accepts much that the compiler refuses. `test_triton_gpu.py` runs this in a process of its own. It
prints one JSON object: for each architecture, the number of kernels, and for each kernel the most registers of a thread
and the most bytes of stack, which is where registers spill to.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime.jit import JITFunction

from distsae.kernels import AdamStep, MomentsName, PrefilterRows, RowTerm, UpdatedRows, moments_of, row_starts
from distsae.kernels.triton_bits import first_ones
from distsae.kernels.triton_encoder import PARTS, upper_bits
from distsae.kernels.triton_gpu import TRITON
from distsae.kernels.triton_update import update_rows

TARGETS = [GPUTarget("cuda", 80, 32), GPUTarget("cuda", 90, 32), GPUTarget("hip", "gfx942", 64)]
UPDATED = (
    *((width, "fp32") for width in (64, 768, 2304, 4096)),
    *((width, kind) for kind in ("bf16", "int8") for width in (768, 4096)),
    (576, "int8"),
)
"""Widths of the rows that are updated, and how their moments are kept; 576 has blocks of 192."""

_CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class _Absent(DriverBase):
    """The driver of an absent device, with what the compiler needs."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_current_device(self) -> int:
        return self.number

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return TARGETS[self.number]


_Absent.__abstractmethods__ = frozenset()
_run = JITFunction.run
_compiled = []


def _compile(kernel, *operands, grid, warmup, **options):
    _compiled.append((kernel.__name__, _run(kernel, *operands, grid=grid, warmup=True, **options)))


def _resources(cubin: bytes) -> tuple[int, int]:
    """Returns the registers of a thread and its bytes of stack."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run(
            [_CUOBJDUMP, "--dump-resource-usage", file.name], check=True, capture_output=True, text=True
        ).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    return int(registers), int(stack)


def _update(width: int, kind: MomentsName, feature: torch.Tensor, token: torch.Tensor) -> None:
    """Updates three features, with the auxiliary term and the prefilter's copy, as every step of a run does."""
    vectors, of_match, of_feature = torch.ones(3, width), torch.ones(len(token)), torch.ones(3)
    parts = [torch.ones(3, width), torch.ones(3, width), of_feature]
    W_enc, W_dec, b_enc = ((part, moments_of(str(i), part, kind, 0, 0).kept(1)) for i, part in enumerate(parts))
    low = PrefilterRows(3, width, torch.device("cpu")).rows
    term = RowTerm(row_starts(feature, 3), token, of_match, of_match, vectors)
    rows = UpdatedRows(W_enc, W_dec, b_enc, low)
    before = len(_compiled)
    update_rows([term, term], vectors, of_feature, rows, AdamStep(1, 0.1, 0.8, 0.95, 1e-10, 3.0), 1.0)
    of_kind = f" {kind}" + " in padded blocks" * (kind == "int8" and width % 256 > 0)
    _compiled[before:] = [(name + of_kind * (name == "_update_rows"), found) for name, found in _compiled[before:]]


def main() -> None:
    """Compiles the kernels for each device and prints what they take."""
    JITFunction.run = _compile
    many = 300  # matches of a feature, so that they are summed in segments
    feature, token = torch.arange(3 * many) // many, torch.arange(3 * many) % 3
    report = {}
    for number, target in enumerate(TARGETS):
        triton.runtime.driver.set_active(_Absent(number))
        _compiled.clear()
        for dtype in (torch.float32, torch.float64):
            for width in (1, 50, 768):
                rows, vectors, score = (torch.ones(shape, dtype=dtype) for shape in ((3, width), (3, width), 3 * many))
                TRITON.match_dots(feature, token, rows, vectors)
                # The same kernel wherever a slice begins: its sum has one order.
                TRITON.match_dots(feature[2:] - 1, token[2:], rows[1:], vectors)
                TRITON.row_sums(row_starts(feature, 3), token, score, vectors)
            for bounds in (1, 3):
                TRITON.scores_at(feature * 3 + token, rows, rows[:, 0], vectors, torch.ones(bounds, 1, dtype=dtype))
        if isinstance(target.arch, int):  # of NVIDIA's: others multiply and compare apart
            rows, columns = (torch.ones(size, 784, dtype=torch.bfloat16) for size in (512, 1024))
            for bounds in (1, 512):
                upper_bits(rows, columns, torch.ones(bounds, 1), PARTS[target.arch // 10])
        first_ones(torch.ones(3, 7, dtype=torch.int32), 200, 10)
        for width, kind in UPDATED:
            _update(width, kind, feature, token)
        assert all("cubin" in found.asm or "hsaco" in found.asm for _, found in _compiled)
        most: dict[str, tuple[int, ...]] = {}
        for name, found in _compiled:
            if "cubin" in found.asm:
                taken = _resources(found.asm["cubin"])
                most[name] = tuple(map(max, zip(most.get(name, taken), taken, strict=True)))
        report[target.arch] = {"kernels": len({found.hash for _, found in _compiled}), "most": most}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
