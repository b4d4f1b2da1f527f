"""The layout of a store: its files and folders, its arrays and their dtypes.

```
STORE/
  attributes.json               published by the first producer
  dataset.json                  sealed last
  merge.json                    only in a merged store: the number of its units, and the stores that it is made of
  reading.json                  only in a bounded store: the run that reads it, and the units released
  commits/unit-000123.json      one commit record a unit: the only list of data that readers trust
  data/unit-000123/ATTEMPT/     a self-contained Zarr v3 group
     act/HOOK                     [rows, d_in]
     token_id position document_id context_id   [rows]
     context_token_ids            [contexts, context_length]
  claims/  contexts/            for producers only: which unit each works on, and the tokenised corpus
```
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import torch

from distsae.store.location import Location

__all__ = ["CONTEXT_DTYPE", "DTYPES", "ROW_ARRAYS", "StorageDtype", "StorePaths", "chunk_count"]


class StorageDtype(NamedTuple):
    """How activations of a logical dtype are stored.

    Args:
        logical: name of the dtype.
        torch: the dtype in memory.
        numpy: the dtype on disk.
        fill: fill value of the array, which stands for missing data and which no activation has.
    """

    logical: str
    torch: torch.dtype
    numpy: np.dtype[Any]
    fill: float | int


DTYPES = {
    "fp16": StorageDtype("fp16", torch.float16, np.dtype("<f2"), float("nan")),
    # Zarr has no bfloat16, so its bits are stored as uint16; as bfloat16, 0xFFFF is a NaN.
    "bf16": StorageDtype("bf16", torch.bfloat16, np.dtype("<u2"), 0xFFFF),
    "fp32": StorageDtype("fp32", torch.float32, np.dtype("<f4"), float("nan")),
}
"""The dtypes that activations can be stored in, by name."""

ROW_ARRAYS: dict[str, np.dtype[Any]] = {
    "token_id": np.dtype("<i4"),
    "position": np.dtype("<i4"),
    "document_id": np.dtype("<i8"),
    "context_id": np.dtype("<i8"),
}
"""The arrays that give the origin of every row (`RowIds`), with their dtypes on disk."""

CONTEXT_DTYPE = np.dtype("<i4")
"""The dtype of `context_token_ids`."""


_UNIT_NAME = re.compile(r"unit-(\d{6,15})", re.ASCII)


class StorePaths:
    """Paths of the files and folders of the store at `root`."""

    def __init__(self, root: Location) -> None:
        self.root = root
        self.attributes = root / "attributes.json"
        self.dataset = root / "dataset.json"
        self.merge = root / "merge.json"
        self.reading = root / "reading.json"
        self.commits = root / "commits"
        self.data = root / "data"
        self.claims = root / "claims"
        self.contexts = root / "contexts"

    def unit_name(self, unit: int) -> str:
        """Returns the name of a unit in `commits`, `data` and `claims`."""
        return f"unit-{unit:06d}"

    def unit_number(self, name: str) -> int | None:
        """Returns the number of a unit from its name, with or without a suffix such as `.json`; None of another."""
        match = _UNIT_NAME.fullmatch(name.partition(".")[0])
        return int(match[1]) if match else None

    def commit(self, unit: int) -> Location:
        """Returns the path of the commit record of a unit."""
        return self.commits / f"{self.unit_name(unit)}.json"

    def attempt(self, attempt: str) -> Location:
        """Returns the folder of an attempt, whose name is `unit-000123/ID`."""
        return self.data / attempt


def chunk_count(rows: int, chunk_rows: int) -> int:
    """Returns the number of chunks that hold `rows` rows; the last one may be partly filled."""
    return -(-rows // chunk_rows)
