"""What a training run has written beside the tensors of a checkpoint, for `distsae checkpoint info`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

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
_RULES = {"token_choice": "Token Choice", "mutual_choice": "Mutual Choice", "feature_choice": "Feature Choice"}


def summary_of(found: Contents) -> dict[str, Any]:
    """Returns what a checkpoint is, by names that are shown; None is what it does not say."""
    facts, entry = found.facts, found.entry
    config, meter = facts.get("config"), facts.get("meter")
    values: dict[str, Any] = config if isinstance(config, dict) else {}
    tokens = values.get("batch_tokens")
    seconds = meter.get("seconds") if isinstance(meter, dict) else None
    return {
        "checkpoint": str(entry.path),
        "step": found.step,
        "tokens": None if tokens is None else found.step * tokens,
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
    """Says which rule the last step had, and when it changes; None for a checkpoint that is not a training run's."""
    if not isinstance(allocation, str):
        return None
    rule = _RULES.get(allocation, allocation)
    if not isinstance(switch_step, int):
        return rule
    if step > switch_step:
        return f"Feature Choice, since step {switch_step + 1:,}"
    return f"{rule}; Feature Choice from step {switch_step + 1:,} on"


def shown_config(config: object) -> dict[str, Any]:
    """Returns the keys that tell runs apart, flat."""
    flat: dict[str, Any] = {}

    def flatten(value: object, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                flatten(inner, f"{name}.{key}" if name else key)
        else:
            flat[name] = value

    flatten(config if isinstance(config, dict) else {}, "")
    return {
        name: value
        for key in _SHOWN_KEYS
        for name, value in flat.items()
        if (name == key or name.startswith(f"{key}.")) and value is not None
    }


def when(seconds: float | None) -> str:
    """Returns the local time of so many seconds since 1970, with its distance from UTC."""
    return "unknown" if seconds is None else datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
