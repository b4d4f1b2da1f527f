"""The working memory of a step, of a checkpoint and of the end of a run, in addition to what is kept between steps."""

from __future__ import annotations

from collections.abc import Iterator

from distsae.allocation import LEAST_GUESSED_TOKENS
from distsae.allocation.roomy_candidates import PLACES_PER_MATCH
from distsae.model import ALL_CANDIDATES_BYTES, FIRST_STEP_BYTES, chunk_size, needs_threshold, selection_mb_on
from distsae.planning.items import TRAINING, Facts, Item, MemoryKind
from distsae.planning.saving import saving_items
from distsae.training import TrainConfig
from distsae.training.freezing.heldout_rows import CALIBRATION_TOKENS, JUDGING_TOKENS

__all__ = ["end_items", "step_items"]

_CANDIDATE_BYTES = 2 * 32
"""Bytes for each match of the budget: candidates take 12 bytes and number up to twice the budget, and they are copied
while they are joined and compared."""

_PLACE_BYTES = 36
"""Bytes of a place for a candidate on a GPU: score and key, joined, and the bits that are compared."""

_MATCH_BYTES = 72
"""Bytes of a match of the step: token, feature, score and dot product; sorted by token; sent and merged."""

_MEASURED_BYTES = 100
"""Bytes of a feature while densities and matches are counted, when several numbers of each feature exist together."""

_ROW_BLOCK = {False: 6 * (3 << 19), True: 6 << 26}
"""Bytes of the block of rows that is being updated, by `Facts.gpu`: gradients, squares, moments in fp32."""


def step_items(config: TrainConfig, facts: Facts, features: int) -> Iterator[Item]:
    """Yields the working memory of a step and of saving a checkpoint, on a rank of `features` features."""
    device: MemoryKind = "device" if facts.gpu else "host"
    parts, ranks = config.accumulation, config.mesh.data
    tokens = config.batch_tokens // ranks
    micro = tokens // parts
    yield Item("a chunk of scores and selection from it", _chunk(config, facts, features, micro), ("select",), device)
    most = config.sae.k if config.sae.k_start is None else config.sae.k_start
    budget = most * micro * ranks * (1 + (config.quota_refresh is not None) + _aux(config) * config.auxiliary.k_per_k)
    places = _PLACE_BYTES * PLACES_PER_MATCH if facts.gpu else 0
    yield Item("candidates for the matches", round(max(_CANDIDATE_BYTES, places) * budget), ("select",), device)
    yield Item("the batch: centred, in bf16", _columns(config, facts), ("select",), device)
    matches = most * config.batch_tokens * (1 + _aux(config) * config.auxiliary.k_per_k) / config.mesh.feature
    yield Item("matches with their gradients", round(_MATCH_BYTES * matches), ("update",), device)
    yield Item("the batch: centred, reconstructed, gradients", _vectors(config, facts), ("update",), device)
    yield Item("rows being updated, counts", _ROW_BLOCK[facts.gpu] + _MEASURED_BYTES * features, ("update",), device)
    matrices = 8 * features * facts.d_in
    if config.engine == "deepspeed":
        yield Item("DeepSpeed: dense gradients, three times", 3 * matrices, ("update",), device)
    if config.evaluate_every is not None:
        yield from _heldout_check(config, facts, matrices // 2, device)
    yield from saving_items(config, facts, features)


def end_items(config: TrainConfig, facts: Facts, features: int) -> Iterator[Item]:
    """Yields the working memory of the end of a run, on a rank of `features` features."""
    device: MemoryKind = "device" if facts.gpu else "host"
    ranks, d_in = config.mesh.data, facts.d_in
    rows = min(facts.heldout_rows, CALIBRATION_TOKENS + JUDGING_TOKENS)
    judging = min(rows, JUDGING_TOKENS)
    calibrating = min(max(rows - judging, rows // 2), CALIBRATION_TOKENS) // ranks
    stored = rows * d_in * facts.storage_bytes
    vectors = 4 + 4 + 2 * facts.prefilter
    if not needs_threshold(config.allocation):
        device_bytes, candidates = 0, 0
    else:
        device_bytes = calibrating * d_in * vectors
        candidates = _CANDIDATE_BYTES * config.sae.k * calibrating * ranks
        size = chunk_size(features, calibrating, _selection_mb(config, facts), facts.prefilter)
        candidates += ALL_CANDIDATES_BYTES[facts.prefilter] * size * calibrating
    if config.allocation == "feature_choice" or config.finetune_fc_from is not None:
        fresh = max(CALIBRATION_TOKENS // config.batch_tokens, 1) * config.batch_tokens // ranks
        device_bytes = max(device_bytes, fresh * d_in * max(vectors, 8))
    yield Item("held-out rows as they are stored", max(stored, 0), ("freeze",))
    yield Item("held-out rows that calibrate", max(device_bytes, stored), ("freeze",), device)
    yield Item(
        "candidates of the calibration", min(candidates, _all_positive(features, calibrating)), ("freeze",), device
    )
    if config.ema_decay is not None:
        yield Item("decoder rows set aside for their average", 4 * features * d_in, ("freeze", "write"), device)
    whole = 8 * config.sae.d_sae * d_in + 16 * config.sae.d_sae
    yield Item("the SAE of all features, on the main process", whole, ("write",), "host", main_only=True)


def _all_positive(features: int, tokens: int) -> int:
    """Returns the bytes of the candidates if every second score is a candidate; the same with and without prefilter."""
    return ALL_CANDIDATES_BYTES[True] * features * tokens


def _aux(config: TrainConfig) -> bool:
    return config.aux != "none"


def _chunk(config: TrainConfig, facts: Facts, features: int, tokens: int) -> int:
    """Returns the bytes of one chunk of scores and of selection from it, with the rule that takes most."""
    rules = {config.allocation}
    rules |= {"feature_choice"} if config.finetune_fc_from is not None else set()
    rules |= {"mutual_choice"} if _aux(config) or config.quota_refresh is not None else set()
    size = max(FIRST_STEP_BYTES[rule][facts.prefilter] for rule in rules)
    if "feature_choice" in rules and tokens < LEAST_GUESSED_TOKENS:
        size = max(size, ALL_CANDIDATES_BYTES[facts.prefilter])
    scores = chunk_size(features, tokens, _selection_mb(config, facts), facts.prefilter) * tokens
    return round(size * scores)


def _selection_mb(config: TrainConfig, facts: Facts) -> float:
    """Returns the memory in MiB that a chunk of scores may take."""
    return selection_mb_on("cuda" if facts.gpu else "cpu", config.tokens_at_once, config.selection_mb)


def _columns(config: TrainConfig, facts: Facts) -> int:
    """Returns the bytes of all vectors of width `d_in` while matches are selected from a micro-batch."""
    batch = config.batch_tokens // config.mesh.data * facts.d_in * 4
    several = batch + (3 if _aux(config) else 2) * batch if config.accumulation > 1 else 0
    now = batch // config.accumulation * (3 if facts.prefilter else 2) // 2
    return several + now


def _vectors(config: TrainConfig, facts: Facts) -> int:
    """Returns the bytes of all vectors of width `d_in` in a micro-batch or, if more, while gradients are gathered."""
    ranks = config.mesh.data
    parts = config.accumulation
    aux = _aux(config)
    batch = config.batch_tokens // ranks * facts.d_in * 4
    left = (3 if aux else 2) * batch  # `x - b_dec` and the gradients of the reconstructions
    several = batch + left if parts > 1 else 0
    in_step = several + (9 if aux else 6) * batch // parts
    gathered = (several + left) + (left * ranks if ranks > 1 else 0)
    return max(in_step, gathered)


def _heldout_check(config: TrainConfig, facts: Facts, matrix: int, device: MemoryKind) -> Iterator[Item]:
    """Yields the memory of measurements on held-out rows during training; `matrix` is the bytes of the decoder rows."""
    rows = min(facts.heldout_rows, JUDGING_TOKENS)
    yield Item("held-out rows, kept", rows * facts.d_in * facts.storage_bytes, TRAINING)
    yield Item("held-out rows, normalised", rows * facts.d_in * 4, ("update",))
    if config.ema_decay is not None:
        yield Item("decoder rows set aside while their average is measured", matrix, ("update",), device)
