"""Turns sums into the numbers of `evaluation.json`. Each mean or ratio of means has its interval.

The headline numbers use the training rule over blocks of text. `frozen_rule` has those of the rule that can be
deployed, with gaps that show what freezing costs. Neither counts rows over the SAE's `max_norm`;
`with_left_out_rows` does. `all_positions` repeats the losses with every position spliced, the excluded first ones too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from distsae.evaluation import adaptivity, fidelity
from distsae.evaluation.bootstrap import Array, Bootstrap, Estimate, Statistic
from distsae.evaluation.density import Densities, summarise
from distsae.evaluation.measured import Measured
from distsae.evaluation.rank_correlation import rank_correlations
from distsae.evaluation.spliced import ablation_cost, loss_recovered, mean_prediction

__all__ = ["Json", "arrays", "headline"]

Json = dict[str, object]

_LOSSES: dict[str, Statistic] = {
    "ce_clean": mean_prediction("ce_clean"),
    "ce_spliced": mean_prediction("ce_spliced"),
    "ce_zero": mean_prediction("ce_zero"),
    "ce_mean": mean_prediction("ce_mean"),
    "loss_recovered_zero": loss_recovered("ce_spliced", "ce_zero"),
    "loss_recovered_mean": loss_recovered("ce_spliced", "ce_mean"),
}
_FIDELITY: dict[str, Statistic] = {
    "fvu": fidelity.fvu,
    "nmse": fidelity.nmse,
    "relative_error": fidelity.relative_error,
    "cosine": fidelity.cosine,
    "fvu_unit_norm": fidelity.fvu_unit_norm,
    "l0": adaptivity.mean_features,
}
_EVERY: dict[str, Statistic] = {
    **_FIDELITY,
    **_LOSSES,
    "kl": mean_prediction("kl"),
    "features_per_token_std": adaptivity.spread,
}
_FROZEN = (*_FIDELITY, "ce_spliced", "kl", "loss_recovered_zero", "loss_recovered_mean", "features_per_token_std")
_WITH_LEFT_OUT = ("fvu", "nmse", "relative_error", "l0", "ce_spliced", "loss_recovered_zero", "loss_recovered_mean")


def headline(measured: Measured, seed: int) -> Json:
    """Returns the measured part of `evaluation.json`; None stands for a number that is not defined.

    Args:
        measured: what the pass over the text measured.
        seed: seed of the bootstrap's resamples.
    """
    shared = _arrays_of(measured.sums)
    bootstrap = Bootstrap(len(shared["rows"]), seed)
    training = shared | _arrays_of(measured.rules["training"].sums)
    frozen = shared | _arrays_of(measured.rules["frozen"].sums)
    densities = _densities(measured)
    result = _estimates(bootstrap, _EVERY, training)
    result |= {
        "dead_share": densities.dead_share,
        "underutilised_share": densities.underutilised_share,
        "zipf_s": densities.zipf_s,
        "zipf_q": densities.zipf_q,
        "variance": _number(float(fidelity.variance(_totals(shared))[0])),
        "zipf_r_squared": densities.zipf_r_squared,
        "zipf_residual": densities.zipf_residual,
        "top_feature_share": densities.top_feature_share,
    }
    correlations = _correlations(measured, bootstrap)
    result["loss_rank_correlation"] = correlations["loss"]
    result["features_per_token_correlations"] = correlations
    frozen_rule = _estimates(bootstrap, {name: _EVERY[name] for name in _FROZEN}, frozen)
    # With its training rule Feature Choice gives every feature its quota; only the frozen rule shows which are dead.
    frozen_densities = summarise(measured.rules["frozen"].counts, len(measured.rows))
    frozen_rule |= {
        "dead_share": frozen_densities.dead_share,
        "underutilised_share": frozen_densities.underutilised_share,
    }
    for name in ("l0", "fvu", "loss_recovered_zero"):
        frozen_rule[f"{name}_gap"] = _gap(frozen_rule[name], result[name])
    result["frozen_rule"] = frozen_rule
    result["rows_left_out"] = measured.rows_left_out
    result["left_out_share"] = measured.rows_left_out / (measured.rows_left_out + len(measured.rows))
    with_left_out = _arrays_of(measured.with_left_out)
    result["with_left_out_rows"] = _estimates(bootstrap, {name: _EVERY[name] for name in _WITH_LEFT_OUT}, with_left_out)
    result["all_positions"] = _estimates(bootstrap, _LOSSES, _arrays_of(measured.everywhere))
    return result


def arrays(measured: Measured) -> dict[str, Array]:
    """Returns the arrays of `evaluation.npz`, which the report draws: `[d_sae]` for features, `[rows]` for token rows.

    Rows over `max_norm` are not among the rows; the others are ordered by context, then position.
    """
    densities = _densities(measured)
    training, frozen = measured.rules["training"], measured.rules["frozen"]
    rows = measured.rows
    tensors = {
        "density": densities.density,
        "density_frozen": frozen.counts.double() / len(rows),
        "features_per_token": training.features_per_token,
        "features_per_token_frozen": frozen.features_per_token,
        "squared_error": training.squared_error,
        "squared_error_frozen": frozen.squared_error,
        "token_loss": rows.token_loss,
        "norm": rows.norm,
        "difficulty": rows.difficulty,
        "token_id": rows.token_id,
        "token_frequency": rows.frequency,
        "position": rows.position,
        "context": rows.context,
    }
    if densities.predicted is not None:
        tensors["zipf_predicted"] = densities.predicted
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _correlations(measured: Measured, bootstrap: Bootstrap) -> Json:
    rows = measured.rows
    return _written(
        rank_correlations(
            measured.rules["training"].features_per_token.double().numpy(),
            loss=rows.token_loss.double().numpy(),
            frequency=rows.frequency.double().numpy(),
            position=rows.position.double().numpy(),
            norm=rows.norm.double().numpy(),
            difficulty=rows.difficulty.double().numpy(),
            context=rows.context.numpy(),
            bootstrap=bootstrap,
        )
    )


def _densities(measured: Measured) -> Densities:
    return summarise(measured.rules["training"].counts, len(measured.rows))


def _arrays_of(sums: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    return {name: tensor.double().numpy() for name, tensor in sums.items()}


def _totals(sums: Mapping[str, Array]) -> dict[str, Array]:
    return {name: part.sum(0, keepdims=True) for name, part in sums.items()}


def _estimates(bootstrap: Bootstrap, statistics: Mapping[str, Statistic], sums: Mapping[str, Array]) -> Json:
    """Returns the estimates; a loss recovered is None if the ablation may cost nothing, and `undefined` says why."""
    result = _written({name: bootstrap.estimate(statistic, sums) for name, statistic in statistics.items()})
    undefined: dict[str, str] = {}
    for ablation in ("zero", "mean"):
        name = f"loss_recovered_{ablation}"
        if name not in statistics:
            continue
        cost = bootstrap.estimate(ablation_cost(f"ce_{ablation}"), sums)
        if cost.value <= 0 or cost.low <= 0:
            result |= {name: None, f"{name}_ci95": [None, None]}
            undefined[name] = (
                f"{ablation} ablation raises the loss by {cost.value:.3g} nats, 95% interval {cost.low:.3g} to "
                f"{cost.high:.3g}: there is no loss to recover"
            )
    return result | ({"undefined": undefined} if undefined else {})


def _written(estimates: Mapping[str, Estimate]) -> Json:
    result: Json = {}
    for name, estimate in estimates.items():
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
