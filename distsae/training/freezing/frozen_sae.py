"""From the shards of a finished run to one frozen SAE on raw activations."""

from __future__ import annotations

import re
from functools import partial

import torch
from torch import Tensor

from distsae import __version__
from distsae.batches import Batch, BatchReader
from distsae.model import SAE, SAEConfig, needs_threshold
from distsae.parallel import Mesh
from distsae.store import Store
from distsae.training.freezing.calibration import calibrated, filled_thresholds, quota_thresholds
from distsae.training.freezing.gap import FrozenGap, frozen_gap
from distsae.training.freezing.heldout_rows import CALIBRATION_TOKENS, heldout_rows, mesh_for_rows
from distsae.training.state import TrainingState

__all__ = ["frozen_sae"]

_SLICE_BYTES = 1 << 22
"""Bytes of rows that every rank receives at once; gloo's threads would keep the memory of larger messages."""


def frozen_sae(
    state: TrainingState, store: Store, reader: BatchReader, slice_bytes: int = _SLICE_BYTES
) -> tuple[SAE | None, FrozenGap]:
    """Calibrates the frozen rule on held-out tokens, folds the normalisation and gathers the features. Collective.

    Training sees `scale * (x - shift)`. On raw activations the same features have `b_enc / scale`, `b_dec / scale +
    shift` and thresholds `/ scale`, with both matrices unchanged. An SAE with `normalise: token` normalises each row
    itself, so nothing is folded. A feature that fired too rarely to have a threshold
    of its own gets the median of the others.

    Args:
        state: state of the training at its end, with the weights that the SAE gets; the engine is not used.
        store: store that the run has read; thresholds are calibrated on its held-out rows.
        reader: reader of the batches, with their normalisation.
        slice_bytes: bytes of rows, of all ranks together, that are gathered at once.

    Returns:
        The SAE on the main process, None on the others; and the gap between the training rule and the frozen rule on
        held-out tokens that were not used for calibration.
    """
    config = state.config
    mesh = state.mesh
    shard = state.shard
    quota_per_token = state.phases.quota_per_token
    normalisation = reader.normalisation
    assert config.hook is not None
    threshold, gap = _frozen_rule(state, store, reader)

    on_main = partial(_on_main, mesh=mesh, d_sae=shard.d_sae, slice_bytes=slice_bytes)
    W_enc = on_main(shard.W_enc, transposed=True)
    W_dec = on_main(shard.W_dec)
    b_enc = on_main(shard.b_enc)
    threshold = on_main(threshold) if threshold is not None else None
    quota_per_token = on_main(quota_per_token) if quota_per_token is not None else None
    if mesh.world.rank:
        return None, gap
    attributes = store.attributes
    layer = re.search(r"\.(\d+)(?:\.|$)", config.hook)
    cfg = SAEConfig(
        d_in=W_dec.shape[1],
        d_sae=shard.d_sae,
        k=config.sae.k,
        allocation=state.phases.allocation(state.steps - 1),
        hook_name=config.hook,
        hook_layer=int(layer[1]) if layer else None,
        model_name=attributes.model,
        context_size=attributes.context_length,
        prepend_bos=attributes.prepend_bos,
        store_fingerprint=store.fingerprint,
        tokens_seen=state.steps * config.batch_tokens,
        normalise=config.normalise,
        normalisation_scale=normalisation.scale,
        max_norm=reader.max_norm,
        excluded_positions=attributes.excluded_positions,
        excluded_tokens=attributes.excluded_tokens,
        model_revision=attributes.model_revision,
        model_digest=attributes.model_digest,
        tokenizer_digest=attributes.tokenizer_digest,
        init_scale=state.init_scale,
        distsae_version=__version__,
    )
    sae = SAE(
        cfg,
        W_enc=W_enc,
        W_dec=W_dec,
        b_enc=b_enc / normalisation.scale,
        b_dec=normalisation.undo(shard.b_dec.detach().cpu()),
        threshold=threshold / normalisation.scale if threshold is not None else None,
        quota_per_token=quota_per_token,
    )
    return sae, gap


def _frozen_rule(state: TrainingState, store: Store, reader: BatchReader) -> tuple[Tensor | None, FrozenGap]:
    """Returns this rank's thresholds, None for Token Choice, and their gap; the held-out rows are then freed."""
    config = state.config
    mesh = state.mesh
    shard = state.shard
    normalisation = reader.normalisation
    assert config.hook is not None
    threshold: Tensor | None = None
    tracked = state.thresholds.thresholds()
    quotas = state.phases.quota_per_token
    if quotas is not None:
        per_feature = quota_thresholds(shard, quotas, config.sae.k, _fresh_rows(reader, state.steps), mesh)
        per_feature = per_feature.double().cpu()  # as the tracked thresholds are
        tracked = torch.where(per_feature.isfinite(), per_feature, tracked)
    calibration_rows, judging_rows = heldout_rows(store, config.hook, reader.max_norm)
    if needs_threshold(state.phases.allocation(state.steps - 1)):
        tracked = filled_thresholds(tracked, mesh)
        divided = mesh_for_rows(mesh, calibration_rows.shape[0])
        tokens = calibration_rows.shape[0] // divided.data.size
        x = calibration_rows[divided.data.rank * tokens : (divided.data.rank + 1) * tokens].to(shard.b_dec.device)
        x = normalisation.apply(x.to(torch.float32, copy=True))
        threshold = calibrated(shard, tracked, x, config.sae.k, divided)
        del x
    return threshold, frozen_gap(state, threshold, judging_rows, normalisation)


def _on_main(local: Tensor, mesh: Mesh, d_sae: int, slice_bytes: int, *, transposed: bool = False) -> Tensor:
    """Gathers a tensor of all features in the CPU memory of the main process. Collective.

    Rows are gathered in slices: beside its shard, a process holds no more than a slice of each feature rank's rows,
    and the main process the result.

    Args:
        local: rows of this rank's features, `[d_sae_local, ...]`.
        mesh: the mesh, as this rank sees it.
        d_sae: number of features over all ranks.
        slice_bytes: bytes of rows, of all ranks together, that are gathered at once.
        transposed: whether to return the transposed matrix.

    Returns:
        Rows of all features on the main process, an empty tensor on the others.
    """
    main, ranges = mesh.world.rank == 0, mesh.feature_ranges(d_sae)
    shape = (d_sae, *local.shape[1:]) if main else (0,)
    whole = torch.empty(shape[::-1] if transposed else shape, dtype=local.dtype)
    by_feature = whole.t() if transposed else whole
    rows = max(slice_bytes // (local[:1].nbytes * len(ranges)), 1)
    for first in range(0, max(map(len, ranges)), rows):
        parts = mesh.feature.gather(local.detach()[first : first + rows])
        if main:
            for features, part in zip(ranges, parts, strict=True):
                by_feature[features.start + first : features.start + first + part.shape[0]] = part.cpu()
    return whole


def _fresh_rows(reader: BatchReader, steps: int) -> Batch:
    """Returns this data rank's rows of the batches that would come next, about `CALIBRATION_TOKENS` over all ranks.

    A bounded store may never have those rows, so there the last batches of the run's last window are read again.

    Args:
        reader: reader of the batches.
        steps: number of optimizer steps of the run.
    """
    batches, first = max(CALIBRATION_TOKENS // reader.batch_tokens, 1), steps
    if reader.order.steps is not None:
        first = max(steps - batches, reader.order.window_begin(steps - 1))
        batches = steps - first
    return Batch.joined([reader.batch(first + number) for number in range(batches)])
