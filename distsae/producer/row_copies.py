"""Brings the rows of one forward pass after the other to their places in host memory.

Rows on a GPU are copied to page-locked memory while the next pass runs, so that neither waits for the other. They are
checked there too: the outcome is read with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor

from distsae.errors import CannotContinue
from distsae.locked_memory import LockedMemory
from distsae.store.rounding import roomier_dtype

__all__ = ["RowCopies", "stored"]


@dataclass(frozen=True, eq=False)
class _UnderWay:
    """Rows of a forward pass that a GPU copies: as computed, in host memory, and whether all are finite there."""

    places: Tensor
    computed: Mapping[str, Tensor]
    copied: Mapping[str, Tensor]
    finite: Mapping[str, Tensor]
    events: list[torch.cuda.Event]


class RowCopies:
    """Puts rows into the arrays of a unit. Use it in a `with` block; the arrays are complete when that has ended.

    Args:
        acts: rows of the unit in the storage dtype, by hook, `[rows, d_in]` on the CPU.
    """

    def __init__(self, acts: Mapping[str, Tensor]) -> None:
        self._acts = acts
        self._locked = LockedMemory("rows are copied to ordinary memory, which takes longer")
        self._kept: dict[str, Tensor] = {}
        self._turn = 0
        self._under_way: _UnderWay | None = None

    def __enter__(self) -> RowCopies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._arrive()
        finally:
            if self._under_way is not None:
                _wait(self._under_way)
            self._locked.release_all()

    def put(self, computed: Mapping[str, Tensor], places: Tensor) -> None:
        """Puts the rows of a forward pass into their places, at the latest with the rows of the next one.

        Args:
            computed: rows by hook, `[rows, d_in]` in the model's dtype; they must not be changed afterwards.
            places: index of each row in the arrays, int64 on the CPU.

        Raises:
            CannotContinue: a value of these rows, or of those before, is not finite before or after storing.
        """
        if not all(rows.is_cuda for rows in computed.values()):
            for hook, rows in computed.items():
                self._acts[hook][places] = stored(rows, self._acts[hook].dtype, hook).cpu()
            return
        begun = self._begun(computed, places)
        try:
            self._arrive()
        finally:
            self._under_way = begun

    def _begun(self, computed: Mapping[str, Tensor], places: Tensor) -> _UnderWay:
        self._turn = 1 - self._turn  # the memory of the pass before is still being read
        copied: dict[str, Tensor] = {}
        finite: dict[str, Tensor] = {}
        for hook, rows in computed.items():
            there = rows.to(self._acts[hook].dtype)
            copied[hook] = self._memory(f"rows {hook}", there).copy_(there, non_blocking=True)
            flag = _all_finite(there)
            finite[hook] = self._memory(f"finite {hook}", flag).copy_(flag, non_blocking=True)
        devices = {rows.device for rows in computed.values()}
        events = [torch.cuda.current_stream(device).record_event() for device in devices]
        return _UnderWay(places, computed, copied, finite, events)

    def _memory(self, name: str, tensor: Tensor) -> Tensor:
        """Returns host memory for a copy; all passes but the last of a unit have equally many rows."""
        name = f"{self._turn} {name}"
        kept = self._kept.get(name)
        if kept is None or kept.shape[1:] != tensor.shape[1:] or (kept.dim() and len(kept) < len(tensor)):
            kept = self._kept[name] = self._locked.like(tensor)
        return kept[: len(tensor)] if tensor.dim() else kept

    def _arrive(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is None:
            return
        _wait(under_way)
        for hook, rows in under_way.copied.items():
            if not under_way.finite[hook]:
                _refuse(under_way.computed[hook], rows, hook)
            self._acts[hook][under_way.places] = rows


def _wait(under_way: _UnderWay) -> None:
    for event in under_way.events:
        event.synchronize()


def stored(values: Tensor, storage: torch.dtype, hook: str) -> Tensor:
    """Returns values in the storage dtype.

    Args:
        values: activations, `[rows, d_in]`.
        storage: dtype of the store.
        hook: hook that they are from.

    Raises:
        CannotContinue: a value is not finite before or after.
    """
    found = values.to(storage)
    if not bool(_all_finite(found)):
        _refuse(values, found, hook)
    return found


def _all_finite(values: Tensor) -> Tensor:
    """Returns whether all values are finite, a bool on their device."""
    # The extremes show an infinity, and are NaN if any value is; isfinite of every value takes twenty times as long.
    return torch.isfinite(torch.stack(torch.aminmax(values))).all()


def _refuse(values: Tensor, found: Tensor, hook: str) -> None:
    """Raises `CannotContinue`, as some of the values are not finite, or not when they are stored."""
    storage = found.dtype
    broken = ~torch.isfinite(values)
    if bool(broken.any()):
        way_out = "another hook or model" if values.dtype == torch.float32 else "--model_dtype fp32"
        raise CannotContinue(
            f"`model_dtype` must keep activations finite; got {int(broken.sum())} infinities or NaNs at {hook}; use "
            f"{way_out}"
        )
    lost = ~torch.isfinite(found)
    raise CannotContinue(
        f"`dtype` must hold every activation; got {lost.float().mean().item():.2e} of the values at {hook} beyond "
        f"{torch.finfo(storage).max:g}, the largest {values.abs().max().item():g}; use --dtype "
        f"{roomier_dtype(values.reshape(-1, values.shape[-1]))}"
    )
