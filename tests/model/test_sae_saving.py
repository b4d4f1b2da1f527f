"""An SAE's ways out; `tests/model/formats` has what each tool gets, `test_hub.py` the Hub."""

import pytest

from distsae.errors import WrongInput
from distsae.model import SAE
from tests.model.formats.samples import files_in, refuse_differences, sample_sae


def test_saved_and_exported_are_the_same_sae(tmp_path):
    sae = sample_sae("feature_choice")
    sae.save(tmp_path / "saved")
    sae.export("safetensors", str(tmp_path / "exported"), licence="mit")
    refuse_differences(SAE.load(tmp_path / "saved"), SAE.load(tmp_path / "exported"))
    assert "license: mit" in (tmp_path / "exported" / "README.md").read_text()


def test_a_url_and_an_unknown_tool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WrongInput, match=r"`out` .* must be a path in a file system"):
        sample_sae().export("saelens", "s3://bucket/sae")
    with pytest.raises(WrongInput, match=r"`to` \(=other\) must be one of saelens"):
        sample_sae().export("other", "sae")
    assert files_in(tmp_path) == []


def test_the_hub_is_not_asked_for_what_cannot_be_written():
    with pytest.raises(WrongInput, match="which needs thresholds"):
        sample_sae().push_to_hub("user/name", to="sparsify")
    with pytest.raises(WrongInput, match=r"`repo` .* must be the name of a repository"):
        sample_sae().push_to_hub("name")
