"""What transformers reports after loading weights, and which of it makes the model another one.

A weight that the files do not hold, or hold in another shape, is drawn at random. Every process and every start draws
another one. Weights that are tied to a loaded one are not in the report.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from distsae.errors import WrongInput
from distsae.progress import say

__all__ = ["quiet_transformers", "refuse_missing_weights"]


def refuse_missing_weights(name: str, report: dict[str, Any]) -> None:
    """Refuses a model with weights that were not loaded; says which of the files' weights the model has no use for.

    Args:
        name: name or folder that the user gave.
        report: what `from_pretrained` returns with `output_loading_info`.

    Raises:
        WrongInput: a weight is missing, or has another shape.
    """
    missing = sorted(report["missing_keys"])
    misshapen = sorted(f"{key} {list(found)} for {list(wanted)}" for key, found, wanted in report["mismatched_keys"])
    unused = sorted(report["unexpected_keys"])
    if missing or misshapen:
        got = f"files without {_some(missing)}" if missing else f"the shape of {_some(misshapen)}"
        instead = f", but with {_some(unused)}" if unused else ""
        raise WrongInput(
            f"`model` (={name}) must hold every weight of its architecture; got {got}{instead}; save the whole model, "
            "with the names that save_pretrained gives"
        )
    if unused:
        say(f"{name}: {_some(unused)} of the files have no place in the model and are not used")


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Within this context, transformers prints neither bars nor warnings: what matters is said in lines of our own."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
