"""From the shards of a finished run to one frozen SAE on raw activations."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from distsae import __version__
from distsae.batches import BatchReader
from distsae.model import SAE, SAEConfig
from distsae.parallel import Mesh
from distsae.store import Store
from distsae.training.config import TrainConfig
from distsae.training.freezing.gap import FrozenGap, frozen_gap
from distsae.training.freezing.heldout_rows import CALIBRATION_TOKENS, heldout_rows, mesh_for
from distsae.training.state import TrainingState
from distsae.training.thresholds import calibrated, quota_thresholds

__all__ = ["frozen_sae", "without_gaps"]

_SLICE_BYTES = 1 << 22
"""Of all ranks' rows, which every rank gets; what is freed of larger ones stays with the threads of gloo."""


def frozen_sae(
    config: TrainConfig, store: Store, state: TrainingState, mesh: Mesh, reader: BatchReader
) -> tuple[SAE | None, FrozenGap]:
    """Calibrates the frozen rule on held-out tokens, folds the normalisation and gathers the features.

    Training sees `scale * (x - shift)`. On raw activations the same features have `b_enc / scale`, `b_dec / scale +
    shift` and thresholds `/ scale`, with both matrices unchanged. A feature that fired too rarely to have a threshold
    of its own takes one from the others.

    Returns:
        The SAE on the main process, None on the others; and what freezing the rule changes on held-out tokens that
        the calibration has not seen. Collective.
    """
    assert config.hook is not None
    assert config.steps is not None
    shard = state.shard
    phases = state.phases
    normalisation = reader.normalisation
    d_sae = config.sae.d_sae
    threshold, gap = _frozen_rule(config, store, state, mesh, reader)

    W_enc = _on_main(shard.W_enc, mesh, d_sae, transposed=True)
    W_dec, b_enc = _on_main(shard.W_dec, mesh, d_sae), _on_main(shard.b_enc, mesh, d_sae)
    threshold = _on_main(threshold, mesh, d_sae) if threshold is not None else None
    quota_per_token = _on_main(phases.credit.quota_per_token, mesh, d_sae) if phases.credit is not None else None
    if mesh.world.rank:
        return None, gap
    attributes = store.attributes
    layer = re.search(r"\.(\d+)(?:\.|$)", config.hook)
    cfg = SAEConfig(
        d_in=W_dec.shape[1],
        d_sae=d_sae,
        k=config.sae.k,
        allocation=phases.allocation(config.steps - 1),
        hook_name=config.hook,
        hook_layer=int(layer[1]) if layer else None,
        model_name=attributes.model,
        context_size=attributes.context_length,
        prepend_bos=attributes.prepend_bos,
        store_fingerprint=store.fingerprint,
        tokens_seen=config.steps * config.batch_tokens,
        normalise=config.normalise,
        normalisation_scale=normalisation.scale,
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


def _frozen_rule(
    config: TrainConfig, store: Store, state: TrainingState, mesh: Mesh, reader: BatchReader
) -> tuple[Tensor | None, FrozenGap]:
    """Returns this rank's thresholds, None for Token Choice, and what they change; the rows are gone afterwards."""
    assert config.hook is not None
    assert config.steps is not None
    shard = state.shard
    phases = state.phases
    normalisation = reader.normalisation
    d_sae = config.sae.d_sae
    threshold: Tensor | None = None
    tracked = state.thresholds.thresholds()
    if phases.credit is not None:
        quotas = phases.credit.quota_per_token
        per_feature = quota_thresholds(shard, quotas, config.sae.k, _fresh_rows(reader, config.steps), mesh, d_sae)
        per_feature = per_feature.double().cpu()  # where the tracked ones are
        tracked = torch.where(per_feature.isfinite(), per_feature, tracked)
    seen, unseen = heldout_rows(store, config.hook)
    if phases.allocation(config.steps - 1) != "token_choice":
        tracked = without_gaps(tracked, mesh)
        sharing = mesh_for(mesh, seen.shape[0])
        share = seen.shape[0] // sharing.data.size
        mine = seen[sharing.data.rank * share : (sharing.data.rank + 1) * share].to(shard.b_dec.device)
        mine = normalisation.apply(mine.to(torch.float32, copy=True))
        threshold = calibrated(shard, tracked, mine, config.sae.k, sharing, d_sae)
        del mine
    gap = frozen_gap(shard, config, phases, threshold, normalisation.apply(unseen.to(torch.float32, copy=True)), mesh)
    return threshold, gap


def without_gaps(thresholds: Tensor, mesh: Mesh) -> Tensor:
    """Gives each local feature without a finite threshold the median of all ranks' finite ones, or 1; collective."""
    everyone = torch.cat(mesh.feature.gather(thresholds))
    known = everyone[everyone.isfinite()]
    return torch.where(thresholds.isfinite(), thresholds, float(known.median()) if known.numel() else 1.0)


def _on_main(local: Tensor, mesh: Mesh, d_sae: int, *, transposed: bool = False) -> Tensor:
    """Returns the tensor of all features on the main process's CPU, and an empty one elsewhere; collective.

    A slice at a time: no process holds more than its shard, a slice of the others', and on the main one the result.
    """
    main, ranges = mesh.world.rank == 0, mesh.feature_ranges(d_sae)
    shape = (d_sae, *local.shape[1:]) if main else (0,)
    whole = torch.empty(shape[::-1] if transposed else shape, dtype=local.dtype)
    by_feature = whole.t() if transposed else whole
    rows = max(_SLICE_BYTES // (local[:1].nbytes * len(ranges)), 1)
    for first in range(0, max(map(len, ranges)), rows):
        parts = mesh.feature.gather(local.detach()[first : first + rows])
        if main:
            for features, part in zip(ranges, parts, strict=True):
                by_feature[features.start + first : features.start + first + part.shape[0]] = part.cpu()
    return whole


def _fresh_rows(reader: BatchReader, steps: int) -> Tensor:
    """Returns this data rank's rows of the batches that would have come next, about `CALIBRATION_TOKENS` in all.

    A bounded store may never have those: there it is the last batches of the window that the run ended in.
    """
    batches, first = max(CALIBRATION_TOKENS // reader.batch_tokens, 1), steps
    if reader.order.steps is not None:
        first = max(steps - batches, reader.order.window_begin(steps - 1))
        batches = steps - first
    return torch.cat([reader.batch(first + number) for number in range(batches)])
