"""The model card says what the SAE is for, what was measured, and what was left out."""

import yaml

from distsae.model.formats.catalogue import FORMATS
from distsae.model.formats.model_card import CardFigure, Measurements, model_card
from tests.model.formats.samples import config


def _card(cfg=None, licence=None, measured=None, to="saelens"):
    return model_card(cfg or config(), FORMATS[to], licence, measured or Measurements(), {"cfg.json": "the config"})


def test_the_head_is_what_the_hub_reads():
    head = yaml.safe_load(_card(licence="mit").split("---")[1])
    assert head["license"] == "mit"
    assert head["library_name"] == "saelens"
    assert "sparse-autoencoder" in head["tags"]
    assert "license" not in yaml.safe_load(_card().split("---")[1])


def test_it_says_what_the_sae_is():
    text = _card()
    for expected in ("`tiny`", "`blocks.3.resid_post`", "Mutual Choice", "jumprelu", "16 tokens", "1,234"):
        assert expected in text
    assert "norm over 77.25 were left out" in text
    assert "Each row is first brought to the norm" not in text
    assert "Each row is first brought to the norm" in _card(config(normalise="token"))
    unknown = _card(config(hook_name="", model_name="", context_size=0))
    assert "a model that is not known" in unknown
    assert "| context | not known |" in unknown


def test_it_shows_how_each_tool_loads_it():
    assert "SAE.load_from_disk" in _card()
    assert "load_dictionary" in _card(to="dictionary_learning")
    assert "SparseCoder.load_from_disk" in _card(to="sparsify")
    assert "SAE.load(" in _card(to="safetensors")


def test_figures_with_their_intervals():
    measured = Measurements(
        figures=[CardFigure(name="FVU", training="0.1 [0.0, 0.2]", frozen="0.3")], about=["On 5 rows."]
    )
    text = _card(measured=measured)
    assert "| FVU | 0.1 [0.0, 0.2] | 0.3 |" in text
    assert "On 5 rows." in text
    assert "Nothing was measured" in _card()
