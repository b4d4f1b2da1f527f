"""Arrays from an npz file of others: what it says of their sizes is compared with the file before any is read."""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy.typing as npt
from numpy.lib import format as npy

from distsae.checked_files.plain_names import shown
from distsae.checked_files.regular_files import open_regular
from distsae.errors import DistsaeError, TornData

__all__ = ["npz_arrays", "require_npy"]

_UNQUESTIONED_BYTES = 128 << 20
_MOST_COMPRESSED = 20
"""Times that arrays may be larger than the file: measured densities and losses compress by 2 to 10."""

_MISFITS = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError),
    *(ValueError, tokenize.TokenError),
)
"""What NumPy raises for a header that makes no sense: it evaluates it as a literal of Python, of any form."""


def npz_arrays(file: Path, error: type[DistsaeError] = TornData) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays of an npz file by name; nothing in it is executed.

    Raises:
        FileNotFoundError: there is no such file.
        DistsaeError: it is not an npz file, is damaged, or holds far more than its size allows; of class `error`.
    """
    with os.fdopen(open_regular(file, error=error), "rb") as opened:
        try:
            with zipfile.ZipFile(opened) as archive:
                members = archive.infolist()
                size = sum(member.file_size for member in members)
                if size > max(_UNQUESTIONED_BYTES, _MOST_COMPRESSED * os.fstat(opened.fileno()).st_size):
                    raise error(f"{file} must hold arrays that its size allows; got {size:,} bytes of them")
                arrays = {}
                for member in members:
                    with archive.open(member) as stream:
                        require_npy(stream, member.file_size)
                    with archive.open(member) as stream:
                        arrays[member.filename.removesuffix(".npy")] = npy.read_array(stream, allow_pickle=False)
                return arrays
        except (*_MISFITS, OSError, zipfile.BadZipFile, zlib.error) as reason:
            raise error(f"{file} cannot be read: {shown(str(reason))}") from reason


def require_npy(stream: IO[bytes], size: int) -> None:
    """Checks that an npy file has the size that its header promises.

    Args:
        stream: the file, at its beginning.
        size: its size in bytes.

    Raises:
        ValueError: it has another size, or is no npy file of plain numbers.
    """
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(stream)
    except _MISFITS as reason:
        raise ValueError(f"its header cannot be read: {shown(str(reason))}") from reason
    if dtype.hasobject:
        raise ValueError("it holds objects, not numbers")
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"its shape is {shown(str(shape))}")
    promised = math.prod(shape) * dtype.itemsize
    if stream.tell() + promised != size:
        raise ValueError(f"an array has {size:,} bytes where its header promises {shown(stream.tell() + promised)}")
