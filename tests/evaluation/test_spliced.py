import numpy as np
import pytest

from distsae.evaluation.spliced import loss_recovered, mean_prediction


def sums(clean, spliced, ablated):
    return {"ce_clean": np.array([clean]), "ce_spliced": np.array([spliced]), "ce_zero": np.array([ablated])}


@pytest.mark.parametrize(
    ("spliced", "expected"),
    [(2.0, 1.0), (10.0, 0.0), (4.0, 0.75), (12.0, -0.25)],
    ids=["as good as clean", "as bad as ablated", "between", "worse than ablated"],
)
def test_sign_of_loss_recovered(spliced, expected):
    assert loss_recovered("ce_spliced", "ce_zero")(sums(2.0, spliced, 10.0))[0] == pytest.approx(expected)


def test_nothing_to_recover():
    assert np.isnan(loss_recovered("ce_spliced", "ce_zero")(sums(2.0, 2.0, 2.0))[0])


def test_mean_over_predictions():
    assert mean_prediction("ce_clean")({"ce_clean": np.array([6.0]), "predictions": np.array([3.0])})[0] == 2.0
