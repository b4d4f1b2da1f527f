"""The memory of a rank, item by item, as a function of the run's config and a few facts.

Memory that is kept from step to step is computed from the shapes that the run will make. The working memory of a step
is derived from its code; only the bytes that selection takes for each score are measured. Where the size depends on
chance, as the number of candidates does, the plan takes the largest. `python -m tests.benchmarks.memory_plan` compares
the plan with what processes really used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from distsae.batches.upload import upload_bytes
from distsae.kernels import PrefilterRows, moments_of
from distsae.planning.gpu import gpu_items
from distsae.planning.items import ALWAYS, STEPPING, TRAINING, Facts, Item, MemoryKind, Moment, bytes_at
from distsae.planning.saving import COPY
from distsae.planning.work import end_items, step_items
from distsae.training import TrainConfig
from distsae.training.engines.plain import rows_with_moments
from distsae.training.engines.row_division import SENT_BYTES

__all__ = ["memory_items"]

_GLOO_MESSAGES = 30
"""Messages of which gloo's threads leave the memory with malloc; measured on 2 ranks, with messages of 1 and 4 MiB."""


def memory_items(members: Sequence[TrainConfig], facts: Facts) -> list[Item]:
    """Returns the items of a process that is both the first rank, which has most features, and the main process.

    Args:
        members: config of the run, or of each member of a sweep. Members keep their state at the same time, but work
            one after another.
        facts: facts about the store and the machine.
    """
    items = [
        Item("Python, torch and libraries, measured now", facts.process_bytes, ALWAYS),
        Item("reader: rows read ahead" + (", page-locked" if facts.gpu else ", batches"), facts.reader_bytes, ALWAYS),
    ]
    if facts.gpu:
        rows = members[0].batch_tokens // members[0].mesh.data
        ring = upload_bytes(rows, facts.d_in, facts.storage_bytes)
        items.append(Item("batches: in use, ready, being made", ring, TRAINING, "device"))
    items += gpu_items(members[0], facts)
    items += _together([item for config in members for item in kept_items(config, facts)])
    works = [_work(config, facts) for config in members]
    items += max(works, key=lambda work: sum(item.bytes for item in work))
    return items


def kept_items(config: TrainConfig, facts: Facts) -> Iterator[Item]:
    """Yields the items that a run keeps from step to step on its first rank."""
    features, device = local_features(config), _device(facts)
    matrix = 4 * features * facts.d_in
    average = 1 if config.ema_decay is not None else 0
    yield Item("encoder and decoder rows", 2 * matrix, ALWAYS, device)
    yield Item("biases", 4 * (features + facts.d_in), ALWAYS, device)
    yield from _optimizer(config, features, facts)
    if facts.prefilter:
        rows = PrefilterRows(features, facts.d_in, torch.device("meta")).rows
        yield Item("the prefilter's bf16 copy of the encoder", rows.nbytes, TRAINING, device)
    if average:
        yield Item("running average of the weights", 2 * matrix + 4 * features, ALWAYS, device)
    yield Item("firing statistics, quotas", _statistics_bytes(config) * features, TRAINING, device)
    yield Item("thresholds", 16 * features, ALWAYS, device)


def local_features(config: TrainConfig) -> int:
    """Returns the number of features of the first rank, which has most."""
    return -(-config.sae.d_sae // config.mesh.feature)


def _optimizer(config: TrainConfig, features: int, facts: Facts) -> Iterator[Item]:
    device, kind = _device(facts), config.optimizer.state
    if config.engine == "deepspeed":
        part = 4 * (2 * features * facts.d_in + features + facts.d_in) // config.mesh.data
        where: MemoryKind = "host" if config.deepspeed.offload_optimizer == "cpu" else device
        yield Item("DeepSpeed's part of the weights", part, TRAINING, where)
        yield Item("Adam's moments, this rank's part", 2 * part, TRAINING, where)
        return
    ranks = config.mesh.data if config.optimizer.divide_moments else 1
    kept = rows_with_moments(features, facts.d_in, ranks, gpu=facts.gpu)
    row = torch.empty(kept, facts.d_in, device="meta")
    state = moments_of("W_enc", row, kind, 0, 0).tensors().values()
    noise = 0 if kind == "fp32" else 24 * kept  # indices and hashes of the rows, for stochastic rounding
    size = 2 * (sum(tensor.nbytes for tensor in state) + noise) + 8 * (kept + facts.d_in)
    divided = f", divided over {ranks} data ranks" if ranks > 1 else ""
    yield Item(f"Adam's moments, {kind}{divided}", size, STEPPING, device)
    if ranks > 1:
        messages = ranks + 1 if facts.gpu else _GLOO_MESSAGES
        when: tuple[Moment, ...] = ("update",) if facts.gpu else TRAINING
        yield Item("new rows on their way between data ranks", messages * SENT_BYTES[facts.gpu], when, device)


def _statistics_bytes(config: TrainConfig) -> int:
    """Returns the bytes of a feature: counts, age, last counts; in Feature Choice also quotas and what they need."""
    size = 25
    if config.allocation == "feature_choice" or config.finetune_fc_from is not None:
        size += 32 + (24 if config.quota_refresh is not None else 0)
    return size


def _work(config: TrainConfig, facts: Facts) -> list[Item]:
    """Returns the working memory of one run or member, from the first step to the end."""
    step = list(step_items(config, facts, local_features(config)))
    items = step + list(end_items(config, facts, local_features(config)))
    if not facts.gpu:
        after: tuple[Moment, ...] = ("save", "write")  # calibration uses this memory again
        small = [
            item for item in step if not item.name.startswith(("DeepSpeed", COPY))
        ]  # malloc returns large matrices to the system
        size = max(bytes_at(small, "select", "host"), bytes_at(small, "update", "host"))
        items.append(Item("freed memory of a step, kept by malloc", size, after))
    return items


def _together(items: Sequence[Item]) -> list[Item]:
    """Returns the items with those of equal name, moments and memory added up."""
    found: dict[tuple[str, tuple[Moment, ...], MemoryKind], int] = {}
    for item in items:
        key = item.name, item.when, item.where
        found[key] = found.get(key, 0) + item.bytes
    return [Item(name, size, when, where) for (name, when, where), size in found.items()]


def _device(facts: Facts) -> MemoryKind:
    return "device" if facts.gpu else "host"
