"""What is installed, and the devices that torch sees."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from distsae.recipes.check.finding import Finding

__all__ = ["devices_found", "versions_found"]

_PACKAGES = ("distsae", "torch", "triton", "accelerate", "deepspeed", "transformers", "zarr", "wandb")
_OPTIONAL = ("triton", "deepspeed", "wandb")


def versions_found() -> Finding:
    """Returns the versions of Python, of the packages, and of CUDA and NCCL if torch was built with them."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
        number: tuple[int, ...] = torch.cuda.nccl.version() if torch.cuda.is_available() else ()  # type: ignore[no-untyped-call]
        found["nccl"] = ".".join(map(str, number)) or "none"
    missing = [name for name, number in found.items() if number == "none" and name in _PACKAGES]
    lacking = [name for name in missing if name not in _OPTIONAL]
    text = ", ".join(f"{name} {number}" for name, number in found.items())
    return Finding("versions", "failed" if lacking else "ok", text, found)


def devices_found() -> Finding:
    """Returns the GPUs, or the CPU if there are none."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    figures: dict[str, float | int | str] = {"gpus": torch.cuda.device_count(), "cores": cores, "threads": threads}
    if not torch.cuda.is_available():
        built = "built without CUDA" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
        return Finding(
            "devices", "ok", f"no GPU (torch is {built}), {cores} cores, {threads} threads a process", figures
        )
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    names = sorted({f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus})
    figures |= {"gpu": names[0], "gpu_bytes": gpus[0].total_memory}
    return Finding("devices", "ok", f"{len(gpus)} x {'; '.join(names)}; {cores} cores", figures)
