"""Nested dictionaries, such as a config in YAML, by dotted keys such as `sae.k`."""

from __future__ import annotations

from typing import Any

__all__ = ["at_key", "flat_keys"]


def flat_keys(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested dictionary as a flat one, with a dotted key for each value that is not a dictionary.

    Args:
        values: nested dictionary.
        prefix: what every key begins with.
    """
    keys: dict[str, Any] = {}
    for name, value in values.items():
        keys.update(flat_keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return keys


def at_key(values: object, key: str) -> Any:  # noqa: ANN401 (any YAML or JSON value)
    """Returns the value at a dotted key; None if there is none."""
    for part in key.split("."):
        if not isinstance(values, dict):
            return None
        values = values.get(part)
    return values
