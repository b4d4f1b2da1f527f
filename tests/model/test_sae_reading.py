"""Which files a path means, and weights that stay in their file."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from distsae.errors import TornData, WrongInput
from distsae.model import SAE
from distsae.model.formats.foreign_sae import Given
from distsae.model.sae_reading import (
    folder_of,
    is_fetched,
    opened_weights,
    read_config,
    read_sae,
    refuse_to_write_there,
)
from tests.model.formats.samples import sample_sae


def test_a_path_that_exists_is_never_looked_for_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample_sae().save(tmp_path / "user" / "name")
    assert folder_of("user/name") == (tmp_path / "user" / "name").relative_to(tmp_path)
    with pytest.raises(WrongInput, match=r"`user/other` must be a folder, or an SAE on the Hugging Face Hub"):
        folder_of("user/other")
    with pytest.raises(WrongInput, match=r"`run` \(=user/other\) must be a folder, or an SAE on the Hugging Face Hub"):
        folder_of("user/other", "run")
    (tmp_path / "user" / "empty").mkdir()
    with pytest.raises(WrongInput, match="and no files of another tool"):
        folder_of("user/empty")


def test_nothing_is_written_beside_an_sae_without_a_place_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user" / "name").mkdir(parents=True)
    refuse_to_write_there("user/name", "run")
    refuse_to_write_there("nowhere", "run")
    for name in ("user/other", "user/name/folder", "saelens:release/id"):
        assert is_fetched(name)
        with pytest.raises(WrongInput, match=rf"`out` must be given with `run` \(={name}\), an SAE of the Hub"):
            refuse_to_write_there(name, "run")


def test_every_kind_of_folder_is_read(tmp_path):
    sae = sample_sae("token_choice")
    sae.save(tmp_path / "run" / "sae")
    for to in ("saelens", "dictionary_learning", "sparsify", "safetensors"):
        sae.export(to, tmp_path / to)
    for name in ("run", "run/sae", "saelens", "dictionary_learning", "sparsify", "safetensors"):
        cfg, tensors, folder = read_sae(tmp_path / name, Given())
        assert cfg == sae.cfg
        assert torch.equal(tensors["W_enc"], sae.W_enc)
        assert folder == tmp_path / ("run/sae" if name == "run" else name)


def test_weights_stay_in_their_file(tmp_path):
    sae = sample_sae()
    sae.save(tmp_path)
    with opened_weights(tmp_path) as (cfg, source):
        assert cfg == sae.cfg
        assert torch.equal(source.columns("W_enc", 3, 9), sae.W_enc[:, 3:9])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, c: t.pop("b_dec"), "must have the tensors of an SAE; got 'b_dec' missing"),
        (lambda t, c: t.update(W_skip=torch.zeros(1)), "got 'W_skip' missing or as well"),
        (lambda t, c: t.pop("threshold"), "does not go with config.json: `threshold` must be given"),
        (lambda t, c: c.update(d_sae=51), "does not go with config.json: `W_enc` must have shape"),
        (lambda t, c: t["W_dec"].mul_(2), "is damaged: the digest"),
        (lambda t, c: (t["W_dec"].div_(0), c.pop("weights_sha256")), "must have finite weights"),
    ],
)
def test_damaged_files_are_named(tmp_path, change, words):
    sample_sae().save(tmp_path)
    tensors, content = load_file(tmp_path / "sae.safetensors"), json.loads((tmp_path / "config.json").read_text())
    change(tensors, content)
    save_file(tensors, tmp_path / "sae.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(TornData, match=words), opened_weights(tmp_path):
        pass


def test_the_config_has_the_digest(tmp_path):
    sample_sae().save(tmp_path)
    cfg, digest = read_config(tmp_path)
    assert cfg == SAE.load(tmp_path).cfg
    assert digest is not None
