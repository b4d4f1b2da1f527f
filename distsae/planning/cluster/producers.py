"""How many producers keep up with a training: rows that it takes in a second over rows that one of them makes."""

from __future__ import annotations

import math

from distsae.planning.cluster.hardware import Hardware

__all__ = ["producer_rate", "producers_needed"]


def producer_rate(parameters: float, model_dtype: str, hardware: Hardware, context_length: int) -> float:
    """Returns the token rows that a producer is estimated to make in a second: one multiplication and one addition for
    each parameter that a token passes. Attention, tokenising and writing are left out.

    Args:
        parameters: parameters that a token passes.
        model_dtype: dtype in which the model computes.
        hardware: device of the producer.
        context_length: tokens of a context, of which the first gives no row.
    """  # noqa: D205
    operations = hardware.exact_products if model_dtype == "fp32" else hardware.products
    return operations / (2 * parameters) * (context_length - 1) / context_length


def producers_needed(tokens_per_second: float, rate: float) -> int:
    """Returns the number of producers that make as many rows in a second as training takes."""
    return math.ceil(tokens_per_second / rate)
