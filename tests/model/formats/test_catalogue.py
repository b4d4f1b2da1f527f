"""Formats are recognised by their files, and no two have the same ones."""

import pytest

from distsae.errors import WrongInput
from distsae.model.formats.catalogue import FORMATS, files_of_formats, foreign_format, format_of


def test_each_format_is_recognised_by_its_two_files(tmp_path):
    assert foreign_format(tmp_path) is None
    for name, found in FORMATS.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / found.config).write_text("{}")
        assert foreign_format(folder) is None
        (folder / found.weights).write_text("")
        assert foreign_format(folder) is (found if found.read is not None else None)
    assert len({(found.config, found.weights) for found in FORMATS.values()}) == len(FORMATS)


def test_files_that_are_fetched_from_the_hub():
    assert files_of_formats() == [
        "ae.pt",
        "cfg.json",
        "config.json",
        "distsae.safetensors",
        "sae.safetensors",
        "sae_weights.safetensors",
    ]


def test_an_unknown_format():
    with pytest.raises(WrongInput, match=r"`to` \(=sealens\) must be one of saelens, .*did you mean 'saelens'\?"):
        format_of("sealens")
