"""Writes a `.npy` file row by row, so that an array larger than memory can be written and then mapped.

The header of a `.npy` file states the number of rows, which is known only at the end. So the header is written twice:
at first with padding for any number of rows, which numpy adds for this purpose, and again when the file is closed.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

__all__ = ["GrowingArray"]


class GrowingArray:
    """An int32 array `[n, width]` that is written to a new file and is never in memory as a whole.

    Use it in a `with` block. When the block ends without an error, the file is what `numpy.save` would have written for
    the whole array; until then its header states zero rows.

    Args:
        path: path of the file.
        width: length of a row.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.rows = 0
        self._width = width
        self._file = path.open("wb")
        self._write_header()
        self._header_size = self._file.tell()

    def append(self, rows: np.ndarray) -> None:
        """Adds `rows`, int32 `[m, width]`."""
        if rows.dtype != np.int32 or rows.shape[1:] != (self._width,):
            raise ValueError(f"`rows` must be int32 [m, {self._width}]; got {rows.dtype} {list(rows.shape)}")
        self._file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def __enter__(self) -> GrowingArray:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is not None:
                return
            self._file.seek(0)
            self._write_header()
            if self._file.tell() != self._header_size:
                raise RuntimeError(f"the header of {self._file.name} has outgrown its padding")

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(np.int32)),
            "fortran_order": False,
            "shape": (self.rows, self._width),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
