"""A `.npy` file that grows by rows, so that an array larger than memory can be written and then mapped.

The header of a `.npy` file states the number of rows, which is known last. It is written with room for any number of
rows (numpy pads it for this purpose), and once more when the file is closed.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

__all__ = ["GrowingArray"]


class GrowingArray:
    """An int32 array `[n, width]` that is written to a new file and never held.

    Use it in a `with` block. The file is as `numpy.save` would have written the whole array when the block ends without
    an error; before that it says that it has no rows.

    Args:
        path: of the file.
        width: length of a row.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.rows = 0
        self._width = width
        self._file = path.open("wb")
        self._write_header()
        self._data_at = self._file.tell()

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
            if self._file.tell() != self._data_at:
                raise RuntimeError(f"the header of {self._file.name} outgrew its place")

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(np.int32)),
            "fortran_order": False,
            "shape": (self.rows, self._width),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
