"""What a storage dtype takes away from activations: values that underflow, and differences too small for its digits.

fp16 has eleven digits down to 6e-5, fewer below, and none below 6e-8. Activations of that size are stored without an
error and train a worse SAE. How much is lost is measured on a few contexts, before a store is begun.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.errors import WrongInput
from distsae.progress import say
from distsae.store.layout import DTYPES

__all__ = ["refuse_rounding", "roomier_dtype", "rounding_loss"]

_TOO_MUCH = 0.01
_NOTABLE = 0.001
"""Shares of the variance: an SAE that explains all but a tenth of it should not be told one of these by its data."""

_EQUAL = 1e-12
"""Largest variance of rows of norm 1 that count as equal."""


def rounding_loss(rows: Tensor, storage: torch.dtype) -> float:
    """Returns the squared error of storing rows in a dtype, as a share of the variance of the rows.

    Both are taken of rows brought to equal norm, so that a few with huge norms do not hide the others. It is 0 for rows
    that do not differ then.

    Args:
        rows: activations, `[rows, d_in]`, all finite.
        storage: dtype that they are stored in.
    """
    exact = rows.double()
    norms = torch.linalg.vector_norm(exact, dim=1, keepdim=True)
    exact, norms = exact[norms.squeeze(1) > 0], norms[norms > 0][:, None]
    directions = exact / norms
    variance = float((directions - directions.mean(0)).square().sum())
    if variance <= _EQUAL * len(directions):
        return 0.0
    error = float(((exact - exact.to(storage).double()) / norms).square().sum())
    return min(error / variance, 1.0)


def roomier_dtype(rows: Tensor) -> str:
    """Returns the name of the smallest dtype beside fp16 that keeps rows: `bf16`, or `fp32` if bf16 rounds too much."""
    fits = bool(rows.to(torch.bfloat16).isfinite().all()) and rounding_loss(rows, torch.bfloat16) < _NOTABLE
    return "bf16" if fits else "fp32"


def refuse_rounding(rows: Tensor, dtype: str, hook: str) -> None:
    """Refuses a storage dtype in which a hook's activations lose too much, and warns of one in which they lose some.

    Args:
        rows: activations of some contexts, `[rows, d_in]`, which the dtype can hold.
        dtype: name of the storage dtype.
        hook: hook of the activations.

    Raises:
        WrongInput: more than a hundredth of the variance would be lost.
    """
    storage = DTYPES[dtype].torch
    loss = rounding_loss(rows, storage)
    if loss < _NOTABLE:
        return
    small = (rows != 0) & (rows.abs() < torch.finfo(storage).tiny)
    share = float(small.sum()) / max(float((rows != 0).sum()), 1.0)
    better = roomier_dtype(rows)
    got = (
        f"{loss:.2%} of the variance at {hook} lost to rounding, where {share:.1%} of the values are below "
        f"{torch.finfo(storage).tiny:.2g}, the smallest that {dtype} holds with all digits"
    )
    if loss >= _TOO_MUCH:
        raise WrongInput(f"`dtype` (={dtype}) must keep activations apart; got {got}; use --dtype {better}")
    say(f"`dtype` (={dtype}): {got}; --dtype {better} would keep it")
