"""The seconds of a step that follow from a data sheet: work over rates, and bytes over links.

Nothing of it is measured. The bytes that a weight and a score move on a GPU are those that the pretended device counts
(`tests/pretended_cuda`), and so are the kernels that are launched.
"""

from __future__ import annotations

from distsae.kernels import MomentsName
from distsae.model import chunk_size, selection_mb_on
from distsae.planning.cluster.hardware import Hardware
from distsae.planning.exchanges import exchanges
from distsae.planning.items import Facts
from distsae.planning.links import Links
from distsae.planning.step_seconds import StepSeconds, with_exchanges
from distsae.planning.step_shape import StepShape, shape_of, work
from distsae.training import TrainConfig

__all__ = ["LAUNCHES", "SCORE_BYTES", "WEIGHT_BYTES", "computed_seconds", "meanwhile", "update_seconds"]

WEIGHT_BYTES: dict[MomentsName, float] = {"fp32": 28.1, "bf16": 21.0, "int8": 17.1}
"""Bytes that an update reads and writes for each number of the encoder and decoder, by the storage of the moments."""

_DENSE_BYTES = 24.0
"""Bytes in addition with DeepSpeed: the gradient as a matrix, written, projected, handed over and read; estimated."""

SCORE_BYTES = {False: 6.4, True: 0.77}
"""Bytes that a score moves: in a matrix of upper bounds, and as one bit in steps of a single Mutual Choice."""

LAUNCHES = {
    ("mutual_choice", False): (8, 0, 142),
    ("mutual_choice", True): (13, 0, 200),
    ("token_choice", False): (16.25, 0, 165),
    ("token_choice", True): (22.25, 0, 223),
    ("feature_choice", False): (19, 0, 170),
    ("feature_choice", True): (24, 0, 228),
}
"""Kernels that a rule launches, without and with the auxiliary loss: for each chunk of scores, for each block of the
update, and for the rest of a step. Feature Choice has quotas that hold on average."""


def computed_seconds(config: TrainConfig, facts: Facts, hardware: Hardware, links: Links) -> StepSeconds:
    """Returns the seconds that a step is computed to take.

    Args:
        config: config of the run.
        facts: facts about the store and the device.
        hardware: rates of the device.
        links: what connects the devices.
    """
    shape = shape_of(config, facts.d_in, gpu=facts.gpu)
    done = work(shape)
    one_bit = facts.gpu and config.allocation != "token_choice" and not shape.k_aux
    product = 2 * done["product"] / (hardware.products if facts.prefilter else hardware.exact_products)
    parts = {
        "selection": product + done["scores"] * SCORE_BYTES[one_bit] / hardware.bandwidth,
        "matched rows": 4 * done["matched"] / hardware.row_bandwidth,
        "update": sum(update_seconds(shape, config, hardware)),
    }
    waiting = meanwhile(shape, facts.storage_bytes, hardware)
    if facts.gpu:
        waiting["launching kernels"] = _launches(config, shape, facts) * hardware.launch
    return with_exchanges(StepSeconds(parts, waiting, shape.tokens), shape, links if exchanges(shape) else None)


def update_seconds(shape: StepShape, config: TrainConfig, hardware: Hardware) -> tuple[float, float]:
    """Returns the seconds of the pass over the weights, and of summing the gradients of the matches in it."""
    done = work(shape)
    each = WEIGHT_BYTES[config.optimizer.state]
    if shape.engine == "deepspeed":  # a rank updates its share, and handles the gradients of all
        each = each / shape.data + _DENSE_BYTES
    return done["weights"] * each / hardware.bandwidth, 4 * done["summed"] / hardware.bandwidth


def meanwhile(shape: StepShape, storage_bytes: int, hardware: Hardware) -> dict[str, float]:
    """Returns the seconds of what is done for the next step meanwhile: reading its rows, and copying them.

    A machine reads the rows of all its data ranks from the disk once: feature ranks read the same rows, and all but the
    first find them in the system's cache.
    """
    own = shape.own_tokens * shape.d_in * storage_bytes
    data_ranks = min(max(hardware.node_size // shape.feature, 1), shape.data)
    found = {"reading": max(own / hardware.reading, data_ranks * own / hardware.disk)}
    if hardware.gpu:
        found["copy to the GPU"] = own / hardware.upload
    return found


def _launches(config: TrainConfig, shape: StepShape, facts: Facts) -> float:
    """Returns the kernels that a step launches."""
    megabytes = selection_mb_on("cuda", config.tokens_at_once, config.selection_mb)
    chunks = -(-shape.own_features // chunk_size(shape.own_features, shape.own_tokens, megabytes, facts.prefilter))
    chunk, _, rest = LAUNCHES[config.allocation, bool(shape.k_aux)]
    return chunk * chunks + rest
