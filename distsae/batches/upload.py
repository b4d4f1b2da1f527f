"""Makes batches on a GPU from rows as they are stored: the GPU widens, looks for rows to leave out, and normalises.

All of it runs on a stream of its own, in the thread that reads ahead, so that it overlaps with the training step. The
CPU only adds up again the norms of the few rows that are near the limit, since stores define it in fp64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.batches.batch import Batch
from distsae.batches.left_out_rows import left_out_rows
from distsae.batches.normalisation import Normalisation
from distsae.store import Store

__all__ = ["Upload", "upload_bytes"]

_BATCHES = 4
"""The batch in use, the one that is ready, the one that is being made, and one whose memory the step may still read."""


def upload_bytes(rows: int, d_in: int, storage_bytes: int) -> int:
    """Returns the most bytes on the GPU: batches in fp32, the squares of one, and one as it is stored.

    Args:
        rows: rows of a batch on this rank.
        d_in: width of a row.
        storage_bytes: bytes of a number in the store.
    """
    return rows * d_in * (4 * (_BATCHES + 1) + storage_bytes)


class Upload:
    """Turns the stored rows of one batch after the other into a `Batch` on a GPU.

    Rows have the bits that the CPU would give them, except with the normalisation `token`: the CPU adds up a norm in
    another order, so there they agree to rounding. On every GPU a row has the same bits in any batch and on any mesh.

    Args:
        device: the GPU.
        normalisation: normalisation of the rows.
        store: store that the rows are read from.
        max_norm: norm of raw activations over which rows are left out; None if all rows are kept.
    """

    def __init__(
        self, device: torch.device, normalisation: Normalisation, store: Store, max_norm: float | None
    ) -> None:
        self._device = device
        self._store = store
        self._max_norm = max_norm
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            self._normalisation = normalisation.on(device)

    def batch(self, stored: Tensor) -> Batch:
        """Returns the batch once the GPU has it; the calling thread waits for that, and nobody else.

        Args:
            stored: rows in the storage dtype, `[rows, d_in]`, on the CPU; they may be overwritten afterwards.
        """
        with torch.cuda.stream(self._stream):
            x = stored.to(self._device, non_blocking=True).to(torch.float32)
            left_out = left_out_rows(x, self._store, self._max_norm, stored)
            left_out = None if left_out is None else left_out.to(self._device)
            batch = Batch(self._normalisation.apply(x), left_out)
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            done.record()
        done.synchronize()
        return batch

    def hand_over(self, batch: Batch) -> Batch:
        """Returns a batch to be used on the current stream, whose memory is not reused before that has done with it."""
        stream = torch.cuda.current_stream(self._device)
        batch.x.record_stream(stream)
        if batch.left_out is not None:
            batch.left_out.record_stream(stream)
        return batch
