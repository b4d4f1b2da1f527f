"""Reads this data rank's part of each global batch, one batch ahead of the training step."""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from distsae.batches.stream_order import STREAMS, StreamOrder
from distsae.errors import WrongInput
from distsae.store import Store

__all__ = ["BatchReader"]


class BatchReader:
    """Global batches of normalised activations in the order of `StreamOrder`.

    Activations are scaled so that their mean norm over the training rows is `sqrt(d_in)`. Each stream keeps the
    chunk it is reading in memory, so a reader holds at most `streams / data ranks` chunks. A thread, not a process,
    reads ahead: nothing is forked after the first read.

    Args:
        store: a sealed store.
        hook: hook to read.
        batch_tokens: rows of a global batch.
        seed: seed of the order.
        data_rank: this rank on the data axis.
        data_ranks: size of the data axis; divides the number of streams.
    """

    def __init__(self, store: Store, hook: str, batch_tokens: int, seed: int, data_rank: int, data_ranks: int) -> None:
        if STREAMS % data_ranks:
            raise WrongInput(f"`mesh.data` (={data_ranks}) must divide {STREAMS}, the number of streams of a batch")
        store.require_hook(hook)
        self._store, self._hook, self.batch_tokens = store, hook, batch_tokens
        self._chunks = store.chunks("train")
        self.order = StreamOrder([chunk.rows for chunk in self._chunks], batch_tokens, seed)
        share = STREAMS // data_ranks
        self._mine = range(data_rank * share, (data_rank + 1) * share)
        self.scale = math.sqrt(store.d_in(hook)) / store.statistics(hook).mean_norm
        self._held: dict[int, tuple[int, Tensor]] = {}  # stream -> (chunk, its rows)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")
        self._ahead: tuple[int, Future[Tensor]] | None = None

    def batch(self, step: int) -> Tensor:
        """Returns this rank's rows of global batch `step` (counted from 0), fp32 `[batch_tokens / data ranks, d_in]`.

        The rows of data ranks 0, 1, ... in this order make the same global batch on every mesh.
        """
        if self._ahead is not None and self._ahead[0] == step:
            rows = self._ahead[1].result()
        else:
            if self._ahead is not None:
                self._ahead[1].result()
            rows = self._thread.submit(self._read, step).result()
        self._ahead = (step + 1, self._thread.submit(self._read, step + 1))
        return rows

    def close(self) -> None:
        """Stops reading ahead."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _read(self, step: int) -> Tensor:
        parts = []
        for stream in self._mine:
            for piece in self.order.slices(step, stream):
                held = self._held.get(stream)
                if held is None or held[0] != piece.chunk:
                    held = (piece.chunk, self._store.read_chunk(self._hook, self._chunks[piece.chunk]))
                    self._held[stream] = held
                parts.append(held[1][piece.start : piece.stop])
        return torch.cat(parts).float() * self.scale
