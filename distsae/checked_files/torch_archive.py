"""Tensors from a `torch.save` file of others: its sizes are compared with the file, and nothing in it is executed."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from distsae.checked_files.plain_names import shown
from distsae.checked_files.regular_files import open_regular
from distsae.errors import DistsaeError, TornData

__all__ = ["read_torch_archive"]

_MOST_PICKLE = 1 << 20
_MISFITS = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile),
)
"""What torch and zipfile raise for a file that makes no sense."""


def read_torch_archive(file: Path, error: type[DistsaeError] = TornData) -> dict[str, Tensor]:
    """Returns the tensors of a file that `torch.save` has made of a dict of tensors, on the CPU.

    Only plain tensors are built (`weights_only`); a pickle that asks for anything else is refused.

    Raises:
        FileNotFoundError: there is no such file.
        DistsaeError: it is not such a file, is damaged, or promises more than it holds; of class `error`.
    """
    with os.fdopen(open_regular(file, error=error), "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        try:
            with zipfile.ZipFile(opened) as archive:
                members = archive.infolist()
                if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                    raise error(f"{file} must be as `torch.save` writes it; got compressed members")
                if sum(member.file_size for member in members) > size:
                    raise error(f"{file} is damaged: its members are larger than the file")
                pickles = [member for member in members if member.filename.endswith(".pkl")]
                if len(pickles) != 1 or pickles[0].file_size > _MOST_PICKLE:
                    raise error(f"{file} must be a dict of tensors that `torch.save` has written; got another archive")
                if (broken := archive.testzip()) is not None:
                    raise error(f"{file} is damaged: the checksum of {shown(broken)} is wrong")
            opened.seek(0)
            content = torch.load(opened, map_location="cpu", weights_only=True)
        except _MISFITS as reason:
            text = shown(" ".join(str(reason).split()))
            raise error(f"{file} must be a dict of tensors that `torch.save` has written; got {text}") from reason
    if not isinstance(content, dict):
        raise error(f"{file} must hold a dict of tensors; got {type(content).__name__}")
    for name, tensor in content.items():
        if type(name) is not str or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise error(f"{file} must hold tensors by name; got {shown(name)} of {type(tensor).__name__}")
        if tensor.device.type != "cpu" or tensor.nbytes > size:
            raise error(f"{file} must hold the tensors that it names; got {shown(name)} of {tensor.nbytes:,} bytes")
    return {name: tensor.detach() for name, tensor in content.items()}
