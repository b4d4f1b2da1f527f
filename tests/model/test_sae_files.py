"""A path means the SAE in it, or else the SAE of the run in it; what holds neither is refused."""

from pathlib import Path

import pytest

from distsae.errors import WrongInput
from distsae.model.sae_files import CONFIG, WEIGHTS, is_complete, sae_folder


def _make(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_an_sae_is_complete_with_both_files(tmp_path):
    assert not is_complete(tmp_path / "nowhere")
    assert not is_complete(_make(tmp_path / "weights", WEIGHTS))
    assert not is_complete(_make(tmp_path / "config", CONFIG))
    assert is_complete(_make(tmp_path / "both", WEIGHTS, CONFIG))


def test_an_sae_folder_and_a_run_folder(tmp_path):
    sae = _make(tmp_path / "run" / "sae", WEIGHTS, CONFIG)
    assert sae_folder(sae) == sae_folder(str(sae)) == sae
    assert sae_folder(tmp_path / "run") == sae_folder(str(tmp_path / "run")) == sae


def test_the_folder_itself_comes_first_if_it_is_complete(tmp_path):
    inner = _make(tmp_path / "sae", WEIGHTS, CONFIG)
    for name in (CONFIG, "model.safetensors"):  # files of other programs do not make it an SAE
        _make(tmp_path, name)
        assert sae_folder(tmp_path) == inner
    _make(tmp_path, WEIGHTS)
    assert sae_folder(tmp_path) == tmp_path


def test_a_path_without_an_sae_is_refused(tmp_path):
    with pytest.raises(WrongInput, match=rf"^`{tmp_path}/nowhere` must be an SAE folder .*; got no such folder; check"):
        sae_folder(tmp_path / "nowhere")
    _make(tmp_path / "sae", WEIGHTS)
    for path in (tmp_path, tmp_path / "sae"):
        with pytest.raises(WrongInput, match=rf"^`run` \(={path}\) must be .*; got no config.json with sae.saf"):
            sae_folder(path, "run")
