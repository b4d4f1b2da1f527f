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

__all__ = ["DTYPES", "OPTIONAL", "REQUIRED", "SAEDigest", "digest_of", "read_weights"]

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

_PIECE_BYTES = 64 << 20


@dataclass(frozen=True)
class SAEDigest:
    """The digest in `config.json`, beside the fields of the `SAEConfig`.

    Args:
        weights_sha256: sha256 of the weights, in hexadecimal; None for an SAE from before it was kept.
    """

    weights_sha256: str | None = None


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Returns the sha256 of tensors, with their names, dtypes and shapes, in hexadecimal; the order does not matter."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        rows = tensor if tensor.dim() else tensor.reshape(1)
        step = max(_PIECE_BYTES // max(rows[:1].nbytes, 1), 1)
        for start in range(0, len(rows), step):
            piece = rows[start : start + step].cpu().contiguous()
            if piece.numel():
                digest.update(piece.reshape(-1).view(torch.uint8).numpy().data)
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
    if broken := [name for name, tensor in tensors.items() if not _is_finite(tensor)]:
        count = int((~tensors[broken[0]].isfinite()).sum())
        raise TornData(
            f"{file} must have finite weights; got {count:,} infinities or NaNs in `{broken[0]}`; save the SAE "
            "again in a dtype that holds its weights, or train it again"
        )
    return tensors


def _is_finite(tensor: Tensor) -> bool:
    """Returns whether all values are finite; the extremes show it, and need no mask of the size of the tensor."""
    return not tensor.numel() or bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())
