"""The facts that a training run saves with the tensors of a checkpoint, as `distsae checkpoint info` shows them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from distsae.nested_keys import flat_keys

if TYPE_CHECKING:
    from distsae.checkpoint.inspecting import Contents

__all__ = ["shown_config", "summary_of", "when"]

_SHOWN_KEYS = (
    "allocation",
    "aux",
    "sae.d_sae",
    "sae.k",
    "engine",
    "mesh",
    "seed",
    "order_seed",
    "batch_tokens",
    "steps",
    "finetune_fc_from",
    "optimizer",
)
"""Keys of the config that tell runs apart; a group such as `mesh` stands for all keys in it."""


def summary_of(found: Contents) -> dict[str, Any]:
    """Returns the facts of a checkpoint by the names that are shown; None for a fact that it does not hold."""
    facts, entry = found.facts, found.entry
    config, meter = facts.get("config"), facts.get("meter")
    values: dict[str, Any] = config if isinstance(config, dict) else {}
    tokens = values.get("batch_tokens")
    seconds = meter.get("seconds") if isinstance(meter, dict) else None
    return {
        "checkpoint": str(entry.path),
        "step": found.step,
        "tokens": found.step * tokens if isinstance(tokens, int) else None,
        "phase": _phase(values.get("allocation"), facts.get("switch_step"), found.step),
        "training_seconds": round(seconds, 3) if isinstance(seconds, float) else seconds,
        "written": when(entry.written),
        "distsae_version": facts.get("distsae_version"),
        "store": values.get("store"),
        "store_fingerprint": facts.get("store_fingerprint"),
        "files": entry.files,
        "bytes": entry.bytes,
        "looks_whole": entry.looks_whole,
        "faults": list(entry.faults),
        "not_part_of_it": list(entry.unlisted),
    }


def _phase(allocation: object, switch_step: object, step: int) -> str | None:
    """Returns the rule of the last step and when it changes; None for a checkpoint that no training run saved."""
    from distsae.model import ALLOCATION_TITLES

    if not isinstance(allocation, str):
        return None
    rule = ALLOCATION_TITLES.get(allocation, allocation)
    if not isinstance(switch_step, int):
        return rule
    if step > switch_step:
        return f"Feature Choice, since step {switch_step + 1:,}"
    return f"{rule}; Feature Choice from step {switch_step + 1:,} on"


def shown_config(config: object) -> dict[str, Any]:
    """Returns the settings that tell runs apart, by dotted key; those without a value are left out."""
    settings = flat_keys(config) if isinstance(config, dict) else {}
    return {
        name: value
        for key in _SHOWN_KEYS
        for name, value in settings.items()
        if (name == key or name.startswith(f"{key}.")) and value is not None
    }


def when(seconds: float | None) -> str:
    """Returns the local time of `seconds` since 1970, with its offset from UTC; `unknown` for None."""
    return "unknown" if seconds is None else datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
