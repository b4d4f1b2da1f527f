"""How much worse the language model predicts when it gets the reconstruction instead of the activation.

Loss recovered is `(ce_ablated - ce_spliced) / (ce_ablated - ce_clean)`: 1 if the reconstruction is as good as the
activation, 0 if it is no better than the ablation (zeros, or the mean activation). All cross-entropies of a ratio are
taken over the same predicted tokens, and all interventions replace the same positions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from distsae.evaluation.bootstrap import Array, Statistic

__all__ = ["ablation_cost", "loss_recovered", "mean_prediction"]


def mean_prediction(name: str) -> Statistic:
    """Returns the statistic `sum / predictions` for what is summed over predictions under `name`, such as losses."""

    def statistic(sums: Mapping[str, Array]) -> Array:
        return sums[name] / sums["predictions"]

    return statistic


def ablation_cost(ablated: str, clean: str = "ce_clean") -> Statistic:
    """Returns the statistic by how much an ablation raises the mean loss of a prediction, in nats.

    Args:
        ablated: name of the summed losses with the ablation.
        clean: name of the summed losses of the unchanged model.
    """

    def statistic(sums: Mapping[str, Array]) -> Array:
        return (sums[ablated] - sums[clean]) / sums["predictions"]

    return statistic


def loss_recovered(spliced: str, ablated: str, clean: str = "ce_clean") -> Statistic:
    """Returns the statistic loss recovered; it is NaN where the ablation costs nothing, since nothing can be recovered.

    Args:
        spliced: name of the summed losses with the reconstruction.
        ablated: name of the summed losses with the ablation.
        clean: name of the summed losses of the unchanged model; all three are over the same predictions.
    """

    def statistic(sums: Mapping[str, Array]) -> Array:
        lost = sums[ablated] - sums[clean]
        out = np.full(np.shape(lost), np.nan)
        np.divide(sums[ablated] - sums[spliced], lost, out=out, where=lost != 0)
        return out

    return statistic
