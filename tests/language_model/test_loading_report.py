import re

import pytest

from distsae.errors import WrongInput
from distsae.language_model import load_language_model
from distsae.language_model.loading_report import quiet_transformers, refuse_missing_weights
from tests.language_model.changed_models import copied, with_config, with_weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: {f"model.{key}": value for key, value in w.items()},
            r"without lm_head.weight and \d+ more, but with",
        ),
        (
            lambda w: {key: value for key, value in w.items() if ".h.1." not in key},
            r"without transformer\.h\.1\..* more",
        ),
        (lambda w: {key: value for key, value in w.items() if "h.1.ln_2.bias" not in key}, r"h\.1\.ln_2\.bias; save"),
        (
            lambda w: w | {"transformer.wpe.weight": w["transformer.wpe.weight"][:9].clone()},
            r"wpe.weight \[9, 32\] for",
        ),
    ],
    ids=["another prefix", "a layer", "one tensor", "another shape"],
)
def test_weights_that_were_not_loaded_are_refused(tiny_model_dir, tmp_path, change, message):
    model = with_weights(copied(tiny_model_dir, tmp_path / "model"), change)
    with pytest.raises(WrongInput, match=rf"must hold every weight of its architecture; got .*{message}"):
        load_language_model(str(model))


def test_a_tied_head_is_no_missing_weight_and_an_untied_one_is(tiny_model_dir, tmp_path):
    load_language_model(str(tiny_model_dir))
    model = with_config(copied(tiny_model_dir, tmp_path / "model"), tie_word_embeddings=False)
    with pytest.raises(WrongInput, match=r"without lm_head\.weight; save"):
        load_language_model(str(model))


def test_weights_without_a_place_are_said_in_one_line(tiny_model_dir, tmp_path, capfd):
    model = with_config(copied(tiny_model_dir, tmp_path / "model"), n_layer=1)
    load_language_model(str(model))
    printed = capfd.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert re.search(r"transformer\.h\.1\.\S+ and \d+ more of the files have no place in the model", printed.err)


def test_a_whole_report_is_silent(capsys):
    refuse_missing_weights("m", {"missing_keys": set(), "mismatched_keys": set(), "unexpected_keys": set()})
    assert capsys.readouterr().err == ""


def test_transformers_is_as_loud_afterwards_as_before():
    from transformers.utils import logging

    before = logging.get_verbosity()
    with quiet_transformers():
        assert logging.get_verbosity() == logging.ERROR
    assert logging.get_verbosity() == before
