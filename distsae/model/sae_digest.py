"""The weights of an SAE in its file: read with care, and compared with the digest that its config carries.

A safetensors file has no checksum of its own, and weights with a flipped bit load and evaluate like any others. So
saving writes the sha256 of every name, dtype, shape and byte into `config.json`. SAEs of earlier versions have none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from distsae.checked_files.safetensors_file import SafetensorsFile
from distsae.errors import TornData
from distsae.model.formats.weight_source import MemoryWeights, WeightSource, row_blocks

__all__ = ["DTYPES", "OPTIONAL", "REQUIRED", "SAEDigest", "digest_of", "read_weights", "refuse_broken", "source_digest"]

REQUIRED = ("W_enc", "W_dec", "b_enc", "b_dec")
"""Tensors that every SAE has."""

OPTIONAL = ("threshold", "quota_per_token")
"""Tensors that some SAEs have, by their allocation rule."""

DTYPES = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float64: "float64",
}
"""Dtypes that the weights of an SAE may have, with their names in its config."""


@dataclass(frozen=True)
class SAEDigest:
    """The digest in `config.json`, beside the fields of the `SAEConfig`.

    Args:
        weights_sha256: sha256 of the weights, in hexadecimal; None for an SAE from before it was kept.
    """

    weights_sha256: str | None = None


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Returns the sha256 of tensors, with their names, dtypes and shapes, in hexadecimal; the order does not matter."""
    return source_digest(MemoryWeights(tensors))


def source_digest(source: WeightSource) -> str:
    """Returns the sha256 of all tensors of a source, as `digest_of` does; they are read in blocks."""
    digest = hashlib.sha256()
    for name in sorted(source.names()):
        digest.update(f"{name} {source.dtype(name)} {list(source.shape(name))}\n".encode())
        for _, block in row_blocks(source, name):
            if block.numel():
                digest.update(block.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_weights(file: Path, digest: str | None) -> dict[str, Tensor]:
    """Returns the tensors of an SAE, on the CPU.

    Args:
        file: safetensors file.
        digest: sha256 that they must have, as `digest_of` computes it; None if it is unknown.

    Raises:
        FileNotFoundError: there is no such file.
        TornData: it is damaged, has other tensors than an SAE, another digest, or weights that are not finite; the
            text names it.
    """
    with SafetensorsFile(file) as opened:
        names = list(opened.entries)
        if missing := [name for name in REQUIRED if name not in names]:
            raise TornData(f"{file} must have the tensor `{missing[0]}`; got {', '.join(map(ascii, names[:8]))}")
        if other := [name for name in names if name not in (*REQUIRED, *OPTIONAL)]:
            raise TornData(f"{file} must have the tensors of an SAE; got {other[0]!a} as well")
        tensors = {name: opened.tensor(name) for name in names}
    dtypes = {tensors[name].dtype for name in REQUIRED}
    if len(dtypes) > 1 or not dtypes <= set(DTYPES):
        named = ", ".join(sorted(map(str, dtypes)))
        raise TornData(
            f"{file} must have weights of one floating-point dtype, {' or '.join(DTYPES.values())}; got {named}"
        )
    if other := [name for name in OPTIONAL if name in tensors and tensors[name].dtype not in DTYPES]:
        raise TornData(f"{file} must have a floating-point `{other[0]}`; got {tensors[other[0]].dtype}")
    if digest is not None and digest_of(tensors) != digest:
        raise TornData(f"{file} is damaged: the digest of its weights is not the one in the SAE's config.json")
    refuse_broken(file, tensors)
    return tensors


def refuse_broken(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Checks that weights are finite.

    Args:
        file: file that they are from, for the error.
        tensors: weights by name.

    Raises:
        TornData: some are not; the text names the file and the tensor.
    """
    if broken := [name for name, tensor in tensors.items() if not _is_finite(tensor)]:
        count = int((~tensors[broken[0]].isfinite()).sum())
        raise TornData(
            f"{file} must have finite weights; got {count:,} infinities or NaNs in `{broken[0]}`; save the SAE "
            "again in a dtype that holds its weights, or train it again"
        )


def _is_finite(tensor: Tensor) -> bool:
    """Returns whether all values are finite; the extremes show it, and need no mask of the size of the tensor."""
    return not tensor.numel() or bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())
