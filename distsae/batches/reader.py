"""Reads this data rank's rows of each global batch, one batch ahead of the training step."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
import torch

from distsae.batches.batch import Batch
from distsae.batches.left_out_rows import left_out_rows
from distsae.batches.normalisation import Normalisation, NormalisationName
from distsae.batches.reader_memory import BATCHES
from distsae.batches.reused_memory import ReusedMemory
from distsae.batches.rows import RowReader
from distsae.batches.stream_order import STREAMS, StreamOrder
from distsae.batches.upload import Upload
from distsae.errors import WrongInput
from distsae.locked_memory import LockedMemory
from distsae.store import Store

__all__ = ["BatchReader"]

_CPU = torch.device("cpu")


class BatchReader:
    """Reads global batches of normalised activations in the order of `StreamOrder`.

    Activations are normalised with the statistics that were sealed with the store, of the rows that are not left out.
    Rows are read ahead into reused memory (`RowReader` documents how much), a chunk's crc32c is checked the first time
    that the chunk is opened, and the next batch is prepared while the current one is in use. All of this happens in
    threads; no process is forked. For a GPU, rows are read into page-locked memory, from where the next batch is copied
    as it is stored while the current one is in use; the rest is the GPU's (`Upload`).

    Args:
        store: a sealed store.
        hook: hook to read.
        batch_tokens: rows of a global batch.
        seed: seed of the order.
        data_rank: this rank's coordinate on the data axis.
        data_ranks: size of the data axis; must divide the number of streams.
        normalise: name of the normalisation.
        max_norm: norm of raw activations over which rows are left out; None if all rows are kept.
        device: device of the batches. For one that is neither the CPU nor a GPU, they stay on the CPU.

    Attributes:
        max_norm: as given.
        statistics: statistics of the raw rows that are kept.
        normalisation: normalisation of the rows.
    """

    def __init__(
        self,
        store: Store,
        hook: str,
        batch_tokens: int,
        seed: int,
        data_rank: int,
        data_ranks: int,
        normalise: NormalisationName = "scale",
        max_norm: float | None = None,
        device: torch.device = _CPU,
    ) -> None:
        if STREAMS % data_ranks:
            raise WrongInput(
                f"`mesh.data` (={data_ranks}) must divide {STREAMS}, the number of streams of a batch; use a power of "
                f"two up to {STREAMS}"
            )
        store.require_hook(hook)
        self.batch_tokens = batch_tokens
        self._store = store
        self._d_in = store.d_in(hook)
        self.order = StreamOrder.of(store, batch_tokens, seed)
        share = STREAMS // data_ranks
        streams = range(data_rank * share, (data_rank + 1) * share)
        self._locked = LockedMemory("batches are copied from ordinary memory, which takes longer")

        def locked_pages(size: int) -> np.ndarray:
            return self._locked.pages(size, device).numpy()

        if device.type == "cuda":
            self._rows = RowReader(store, hook, self.order, streams, pages=locked_pages)
        else:
            self._rows = RowReader(store, hook, self.order, streams)
        self._memory = ReusedMemory((batch_tokens // data_ranks, store.d_in(hook)), kept=BATCHES)
        self.max_norm = max_norm
        self.statistics = store.statistics(hook, max_norm)
        self.normalisation = Normalisation.of(self.statistics, normalise)
        self._upload = Upload(device, self.normalisation, store, max_norm) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")
        self._ahead: tuple[int, Future[Batch]] | None = None

    def memory_bytes(self, *, gpu: bool) -> int:
        """Returns the most memory of the host that reading takes, in bytes, if the caller holds one batch at a time.

        Args:
            gpu: whether batches are made on a GPU, which then holds them (`upload_bytes`).
        """
        return self._rows.memory_bytes + (0 if gpu else BATCHES * self._rows.batch_rows * self._d_in * 4)

    def batch(self, step: int) -> Batch:
        """Returns this rank's rows of global batch `step` (counted from 0), `batch_tokens / data_ranks` of them.

        The rows of data ranks 0, 1, ... in this order make the same global batch on every mesh. Batches in sequence are
        read ahead; any other step starts reading anew.

        Raises:
            TornData: a file is missing or damaged; the text names it.
            WrongInput: the bounded store has no such batch.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == step:
            batch = ahead[1].result()
        else:
            if ahead is not None:
                self._rows.stop_waiting()  # it may wait for a unit that is produced only after this batch is read
                wait([ahead[1]])
                self._rows.reset()
            batch = self._thread.submit(self._read, step).result()
        has_next = self.order.steps is None or step + 1 < self.order.steps
        self._ahead = (step + 1, self._thread.submit(self._read, step + 1)) if has_next else None
        return batch if self._upload is None else self._upload.hand_over(batch)

    def wait_until_ahead(self) -> None:
        """Waits until the next batch is ready and as many rows are read ahead as fit into memory."""
        if self._ahead is not None:
            wait([self._ahead[1]])
        self._rows.wait_until_ahead()

    def close(self) -> None:
        """Stops reading ahead and ends all threads."""
        self._rows.stop_waiting()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._rows.close()
        self._locked.release_all()

    def _read(self, step: int) -> Batch:
        if self._upload is not None:
            return self._upload.batch(self._rows.read(step))
        raw = self._memory.tensor().copy_(self._rows.read(step))
        left_out = left_out_rows(raw, self._store, self.max_norm)
        return Batch(self.normalisation.apply(raw), left_out)
