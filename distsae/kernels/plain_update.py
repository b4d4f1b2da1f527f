"""The plain statement of a whole update: what `Kernels.update_rows` must compute, one operation after the other."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from distsae.kernels.operations import AdamStep, RowTerm, UpdatedRows
from distsae.kernels.prefilter import PrefilterRows
from distsae.kernels.reference import REFERENCE

__all__ = ["plain_update"]


def plain_update(
    terms: list[RowTerm],
    centred: Tensor,
    b_gradient: Tensor,
    rows: UpdatedRows,
    numbers: AdamStep | None,
    scale: float,
) -> Tensor:
    """Updates all rows of a shard; see `distsae.kernels.operations.UpdateRows`."""
    W_enc, _ = rows.W_enc
    W_dec, _ = rows.W_dec
    b_enc, _ = rows.b_enc
    encoder, decoder = torch.zeros_like(W_enc), torch.zeros_like(W_dec)
    for term in terms:
        encoder += REFERENCE.row_sums(term.starts, term.token, term.dots, centred)
        decoder += REFERENCE.row_sums(term.starts, term.token, term.score, term.g)
    decoder -= (decoder * W_dec).sum(1, keepdim=True) * W_dec
    if numbers is not None:
        of_decoder = replace(numbers, lr=numbers.decoder_rate * numbers.lr)
        updated = (rows.W_enc, encoder, numbers), (rows.W_dec, decoder, of_decoder), (rows.b_enc, b_gradient, numbers)
        for (parameter, moments), gradient, step in updated:
            mean, square = moments.read()
            REFERENCE.adam([parameter], [scale * gradient], [mean], [square], step)
            moments.write(mean, square)
        W_dec /= W_dec.norm(dim=1, keepdim=True)
        if rows.low is not None:
            PrefilterRows.of(rows.low, W_enc.shape[1]).refresh(0, W_enc, b_enc)
    return encoder.square().sum(1) + decoder.square().sum(1)
