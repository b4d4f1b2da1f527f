"""Where things are in a store, and in which dtype.

```
STORE/
  attributes.json               published by the first producer
  dataset.json                  sealed last
  merge.json                    of a merged store: how many units it will have, and of which stores
  reading.json                  of a bounded store: how far its reader is
  commits/unit-000123.json      one commit record a unit: the only list of data that readers trust
  data/unit-000123/ATTEMPT/     a self-contained Zarr v3 group
     act/HOOK                     [rows, d_in]
     token_id position document_id context_id   [rows]
     context_token_ids            [contexts, context_length]
  claims/  contexts/            producers' scratch: who works on what, and the tokenised corpus
```
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from distsae.store.location import Location

__all__ = ["CONTEXT_DTYPE", "DTYPES", "ROW_ARRAYS", "StorageDtype", "StorePaths", "chunk_count"]


class StorageDtype(NamedTuple):
    """How a logical dtype lies on disk; `fill` stands for missing data and cannot pass for data."""

    logical: str
    torch: torch.dtype
    numpy: np.dtype[Any]
    fill: float | int


DTYPES = {
    "fp16": StorageDtype("fp16", torch.float16, np.dtype("<f2"), float("nan")),
    # Zarr has no bfloat16: it is kept as uint16, and 0xFFFF is a NaN there.
    "bf16": StorageDtype("bf16", torch.bfloat16, np.dtype("<u2"), 0xFFFF),
    "fp32": StorageDtype("fp32", torch.float32, np.dtype("<f4"), float("nan")),
}
"""The dtypes that activations are stored in."""

ROW_ARRAYS: dict[str, np.dtype[Any]] = {
    "token_id": np.dtype("<i4"),
    "position": np.dtype("<i4"),
    "document_id": np.dtype("<i8"),
    "context_id": np.dtype("<i8"),
}
"""What is known of every row beside its activation."""

CONTEXT_DTYPE = np.dtype("<i4")
"""Of `context_token_ids`."""


class StorePaths:
    """Names of the files of the store at `root`."""

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
        """Name of a unit, in commits and in data."""
        return f"unit-{unit:06d}"

    def unit_number(self, name: str) -> int:
        """Number of the unit with this name, or with a file of this name."""
        return int(name.removeprefix("unit-").partition(".")[0])

    def commit(self, unit: int) -> Location:
        """The commit record of a unit."""
        return self.commits / f"{self.unit_name(unit)}.json"

    def attempt(self, attempt: str) -> Location:
        """The folder of an attempt, named `unit-000123/ID`."""
        return self.data / attempt


def chunk_count(rows: int, chunk_rows: int) -> int:
    """Number of chunks that `rows` rows fill; the last one may be partly empty."""
    return -(-rows // chunk_rows)
