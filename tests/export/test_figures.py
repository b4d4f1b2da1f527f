"""The model card's figures are those of the run's evaluation, if it is of this SAE."""

import json

import pytest

from distsae.errors import TornData
from distsae.export.figures import measurements
from tests.model.formats.samples import D_IN, D_SAE, K, config

EVALUATION = {
    "d_in": D_IN,
    "d_sae": D_SAE,
    "k": K,
    "allocation": "mutual_choice",
    "hook": "blocks.3.resid_post",
    "rows": 1524,
    "corpus": "/home/somebody/private/train.jsonl",
    "split": "heldout",
    "excluded_positions": 1,
    "excluded_tokens": [7],
    "rows_left_out": 12,
    "fvu": 0.25,
    "fvu_ci95": [0.2, 0.3],
    "l0": 5.0,
    "kl": None,
    "frozen_rule": {"fvu": 0.26, "fvu_ci95": [None, None]},
}


def _written(folder, name, content):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_an_evaluation(tmp_path):
    _written(tmp_path, "evaluation.json", EVALUATION)
    found = measurements(tmp_path, config())
    rows = {figure.name.partition(" ")[0]: (figure.training, figure.frozen) for figure in found.figures}
    assert rows == {"FVU": ("0.2500 [0.2000, 0.3000]", "0.2600"), "features": ("5.0000", "")}
    about = " ".join(found.about)
    for expected in ("1,524 rows of heldout text of train.jsonl", "first position", "tokens 7", "12 rows with huge"):
        assert expected in about
    assert "somebody" not in about


def test_an_evaluation_of_another_sae_is_left_out_and_said_to_be(tmp_path, capsys):
    _written(tmp_path, "evaluation.json", EVALUATION | {"d_sae": 51})
    assert measurements(tmp_path, config()).figures == ()
    assert "is left out of the model card: it is of another SAE" in capsys.readouterr().err


def test_the_frozen_rule_alone(tmp_path):
    _written(
        tmp_path, "frozen_rule.json", {"rows": 900, "l0": 4.9, "l0_training": 5.0, "fvu": 0.3, "fvu_training": 0.2}
    )
    found = measurements(tmp_path, config())
    assert [(figure.training, figure.frozen) for figure in found.figures] == [
        ("0.2000", "0.3000"),
        ("5.0000", "4.9000"),
    ]
    assert found.about == ("Measured on 900 held-out rows at the end of training.",)


def test_nothing_was_measured(tmp_path):
    assert measurements(tmp_path, config()).figures == ()


@pytest.mark.parametrize("content", ["{", "[]", {"d_in": "x"}])
def test_a_damaged_evaluation_is_named(tmp_path, content):
    _written(tmp_path, "evaluation.json", content)
    with pytest.raises(TornData, match=r"evaluation\.json"):
        measurements(tmp_path, config())
