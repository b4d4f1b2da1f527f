"""Turns sums into the numbers of `evaluation.json`. Each mean or ratio of means has its interval.

The headline numbers use the training rule over blocks of text. `frozen_rule` has those of the rule that can be
deployed, with gaps that show what freezing costs. `all_positions` repeats the losses with the excluded first positions
spliced too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from distsae.evaluation import adaptivity, fidelity
from distsae.evaluation.bootstrap import Array, Bootstrap, Statistic
from distsae.evaluation.density import Densities, summarise
from distsae.evaluation.measure import Measured
from distsae.evaluation.spliced import loss_recovered, mean_loss

__all__ = ["Json", "arrays", "headline"]

Json = dict[str, object]

_LOSSES: dict[str, Statistic] = {
    "ce_clean": mean_loss("ce_clean"),
    "ce_spliced": mean_loss("ce_spliced"),
    "ce_zero": mean_loss("ce_zero"),
    "ce_mean": mean_loss("ce_mean"),
    "loss_recovered_zero": loss_recovered("ce_spliced", "ce_zero"),
    "loss_recovered_mean": loss_recovered("ce_spliced", "ce_mean"),
}
_FIDELITY: dict[str, Statistic] = {"fvu": fidelity.fvu, "nmse": fidelity.nmse, "l0": adaptivity.mean_features}
_SPREAD: dict[str, Statistic] = {"features_per_token_std": adaptivity.spread}
_FROZEN = ("l0", "fvu", "nmse", "ce_spliced", "loss_recovered_zero", "loss_recovered_mean", "features_per_token_std")


def headline(measured: Measured, seed: int) -> Json:
    """Returns the measured part of `evaluation.json`; None stands for a number that is not defined.

    Args:
        measured: what the pass over the text measured.
        seed: seed of the bootstrap's resamples.
    """
    shared = _arrays_of(measured.sums)
    bootstrap = Bootstrap(len(shared["rows"]), seed)
    every = _FIDELITY | _LOSSES | _SPREAD
    training = shared | _arrays_of(measured.rules["training"].sums)
    frozen = shared | _arrays_of(measured.rules["frozen"].sums)
    densities = _densities(measured)
    result = _estimates(bootstrap, every, training)
    result |= {
        "dead_share": densities.dead_share,
        "underutilised_share": densities.underutilised_share,
        "zipf_s": densities.zipf_s,
        "zipf_q": densities.zipf_q,
        "variance": _number(float(fidelity.variance(_totals(shared))[0])),
        "zipf_r_squared": densities.zipf_r_squared,
        "zipf_residual": densities.zipf_residual,
        "top_feature_share": densities.top_feature_share,
        "loss_rank_correlation": _number(
            adaptivity.rank_correlation(
                measured.rules["training"].features_per_token.double().numpy(), measured.token_loss.double().numpy()
            )
        ),
    }
    frozen_rule = _estimates(bootstrap, {name: every[name] for name in _FROZEN}, frozen)
    # With its training rule Feature Choice gives every feature its quota; only the frozen rule shows which are dead.
    frozen_densities = summarise(measured.rules["frozen"].counts, len(measured.token_loss))
    frozen_rule |= {
        "dead_share": frozen_densities.dead_share,
        "underutilised_share": frozen_densities.underutilised_share,
    }
    for name in ("l0", "fvu", "loss_recovered_zero"):
        frozen_rule[f"{name}_gap"] = _gap(frozen_rule[name], result[name])
    result["frozen_rule"] = frozen_rule
    result["all_positions"] = _estimates(bootstrap, _LOSSES, _arrays_of(measured.everywhere))
    return result


def arrays(measured: Measured, rows_per_context: int, first_position: int) -> dict[str, Array]:
    """Returns the arrays of `evaluation.npz`, which the report draws: `[d_sae]` for features, `[rows]` for token rows.

    Args:
        measured: what the pass over the text measured.
        rows_per_context: number of evaluated positions of a context.
        first_position: first evaluated position of a context.
    """
    densities = _densities(measured)
    training, frozen = measured.rules["training"], measured.rules["frozen"]
    rows = len(measured.token_loss)
    position = first_position + torch.arange(rows_per_context).repeat(rows // rows_per_context)
    tensors = {
        "density": densities.density,
        "density_frozen": frozen.counts.double() / rows,
        "features_per_token": training.features_per_token,
        "features_per_token_frozen": frozen.features_per_token,
        "squared_error": training.squared_error,
        "squared_error_frozen": frozen.squared_error,
        "token_loss": measured.token_loss,
        "position": position.int(),
    }
    if densities.predicted is not None:
        tensors["zipf_predicted"] = densities.predicted
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _densities(measured: Measured) -> Densities:
    return summarise(measured.rules["training"].counts, len(measured.token_loss))


def _arrays_of(sums: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    return {name: tensor.double().numpy() for name, tensor in sums.items()}


def _totals(sums: Mapping[str, Array]) -> dict[str, Array]:
    return {name: part.sum(0, keepdims=True) for name, part in sums.items()}


def _estimates(bootstrap: Bootstrap, statistics: Mapping[str, Statistic], sums: Mapping[str, Array]) -> Json:
    result: Json = {}
    for name, statistic in statistics.items():
        estimate = bootstrap.estimate(statistic, sums)
        result[name] = _number(estimate.value)
        result[f"{name}_ci95"] = [_number(estimate.low), _number(estimate.high)]
    return result


def _gap(frozen: object, training: object) -> float | None:
    if isinstance(frozen, float) and isinstance(training, float):
        return frozen - training
    return None


def _number(value: float) -> float | None:
    # JSON has no NaN.
    return value if math.isfinite(value) else None
