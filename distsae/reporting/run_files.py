"""Reads the files of a run that a report is made of, and checks every field that the report computes with.

Fields that no report reads may be anything: an earlier version has fewer of them, a later one has more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from distsae.checked_files import (
    Between,
    WrongField,
    read_json_object,
    read_yaml_mapping,
    shown,
    typed,
)
from distsae.checked_files.npz import npz_arrays
from distsae.errors import TornData

__all__ = ["read_arrays", "read_config", "read_evaluation"]

_GROUPS = ("frozen_rule", "with_left_out_rows", "all_positions", "features_per_token_correlations")
"""Objects in `evaluation.json` that hold figures themselves."""

_FIGURES = frozenset(
    (
        *("fvu", "nmse", "relative_error", "cosine", "fvu_unit_norm", "variance", "l0", "features_per_token_std"),
        *("ce_clean", "ce_spliced", "ce_zero", "ce_mean", "loss_recovered_zero", "loss_recovered_mean", "kl"),
        *("l0_gap", "fvu_gap", "loss_recovered_zero_gap", "dead_share", "underutilised_share", "left_out_share"),
        *("zipf_s", "zipf_q", "zipf_r_squared", "zipf_residual", "top_feature_share", "max_norm"),
        *("loss", "frequency", "position", "norm", "loss_given_norm", "loss_rank_correlation"),
    )
)
"""Numbers in `evaluation.json`, or null where a number is not defined."""

_COUNTS = ("rows", "contexts", "rows_left_out", "k", "d_in", "d_sae")

_TEXTS = ("split", "corpus", "model", "hook", "text_digest", "distsae_version", "allocation")

_OF_FEATURES = ("density", "density_frozen", "zipf_predicted")
_DRAWN = ("density", "features_per_token", "squared_error", "token_loss")
"""Arrays of `evaluation.npz` that every version writes and every report draws."""


@dataclass(frozen=True, kw_only=True)
class ReportedSettings:
    """The keys of a run's config that a report computes with; the others it shows as they are."""

    store: str | None = None
    allocation: str | None = None
    quotas: str | None = None
    finetune_fc_from: float | None = None
    steps: int | None = None


def read_config(file: Path) -> dict[str, Any]:
    """Returns the content of `config.yaml`; empty if there is no such file.

    Raises:
        TornData: it is damaged, or a field is not what it must be; the text names file and field.
    """
    if not file.exists():
        return {}
    content = read_yaml_mapping(file, str(file))
    _typed(ReportedSettings, content, file)
    return content


def read_evaluation(file: Path) -> dict[str, Any] | None:
    """Returns the content of `evaluation.json`; None if there is no such file.

    Raises:
        TornData: it is damaged, or a field is not what it must be; the text names file and field.
    """
    if not file.exists():
        return None
    content = read_json_object(file)
    _check_figures(content, "", file)
    for group in _GROUPS:
        if group in content:
            _check_figures(_typed(dict[str, Any], content[group], file, group), f"{group}.", file)
    return content


def read_arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays of `evaluation.npz`; empty if there is no such file.

    Raises:
        TornData: it is damaged, lacks an array, or has one of another length than the others; the text names them.
    """
    if not file.exists():
        return {}
    arrays = npz_arrays(file)
    for name in _DRAWN:
        if name not in arrays:
            raise TornData(f"{file} must have the array `{name}`; got none; run `distsae evaluate` again")
    for name, array in arrays.items():
        like = "density" if name in _OF_FEATURES else "features_per_token"
        if array.ndim != 1 or array.dtype.kind not in "fiub" or array.shape != arrays[like].shape or not len(array):
            raise TornData(
                f"{file} must have an array {shown(name)} of as many numbers as `{like}`; got {array.dtype} of shape "
                f"{list(array.shape)}; run `distsae evaluate` again"
            )
    density, counts = arrays["density"], arrays["features_per_token"]
    if not np.isfinite(density).all() or counts.min() < 0 or not counts.max() <= len(density):
        raise TornData(f"{file} must have finite densities, and counts up to the number of features; got others")
    return arrays


def _check_figures(content: Mapping[str, Any], at: str, file: Path) -> None:
    for name, value in content.items():
        if name in _FIGURES:
            _typed(float | None, value, file, at + name)
        elif name in _COUNTS:
            _typed(Annotated[int, Between(0)] | None, value, file, at + name)
        elif name in _TEXTS:
            _typed(str | None, value, file, at + name)
        elif name.endswith("_ci95") and name.removesuffix("_ci95") in _FIGURES:
            _typed(tuple[float | None, float | None] | None, value, file, at + name)


def _typed(kind: Any, value: object, file: Path, at: str = "") -> Any:  # noqa: ANN401  (any annotation, any value)
    try:
        return typed(kind, value, at)
    except WrongField as error:
        raise TornData(f"{file}: {error}; run the command that wrote it again") from None
