"""A folder is written whole or not at all, over nothing that was there."""

import os
import resource

import pytest
import torch

from distsae.errors import CannotContinue, WrongInput
from distsae.model.formats.folder_writing import refuse_taken, refuse_unholdable, write_folder
from distsae.model.formats.weight_source import MemoryWeights
from tests.model.formats.samples import config, files_in, sample_sae

FORMATS = ("saelens", "dictionary_learning", "safetensors")


def test_an_empty_folder_is_filled_and_progress_is_told(tmp_path):
    sae = sample_sae()
    source = MemoryWeights(sae.state_dict())
    for to in FORMATS:
        (tmp_path / to).mkdir()
        told = []
        write_folder(sae.cfg, source, to, tmp_path / to, advance=told.append)
        assert "README.md" in files_in(tmp_path / to)
        assert sum(told) == refuse_unholdable(sae.cfg, source, to, None)
    assert files_in(tmp_path) == sorted(FORMATS)


def test_what_a_killed_process_left_is_replaced(tmp_path):
    left = tmp_path / ".sae.unfinished"
    left.mkdir()
    (left / "rubbish").write_text("")
    sample_sae().export("saelens", tmp_path / "sae")
    assert files_in(tmp_path) == ["sae"]
    assert "rubbish" not in files_in(tmp_path / "sae")


def test_a_name_that_is_taken(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    (tmp_path / "file").write_text("")
    for name, words in (("full", "got one with files in it"), ("file", "got a file"), ("file/sae", "which is a file")):
        with pytest.raises(WrongInput, match=words):
            sample_sae().export("saelens", tmp_path / name)
    assert files_in(tmp_path) == ["file", "full"]
    refuse_taken(tmp_path / "new" / "deep")


def test_a_dtype_that_cannot_hold_the_weights_leaves_nothing(tmp_path):
    sae = sample_sae()
    with torch.no_grad():
        sae.W_enc[3, 4] = 1e6
    for to in FORMATS:
        with pytest.raises(WrongInput, match="`dtype` must hold the weights of the SAE; got float16"):
            sae.export(to, tmp_path / "sae", dtype="fp16")
    with pytest.raises(WrongInput, match=r"`dtype` \(=int8\) must be one of fp32, bf16, fp16"):
        sae.export("saelens", tmp_path / "sae", dtype="int8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path, to):
    sae = sample_sae()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900, limits[1]))
    try:
        with pytest.raises(CannotContinue, match="the SAE could not be exported into"):
            sae.export(to, tmp_path / "sae")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_files_have_the_mode_of_new_files(tmp_path):
    old = os.umask(0o027)
    try:
        sample_sae().export("dictionary_learning", tmp_path / "sae")
    finally:
        os.umask(old)
    modes = {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "sae").iterdir()}
    assert modes == {"0o640"}


def test_a_config_that_does_not_go_with_a_format_is_refused_before_anything(tmp_path):
    source = MemoryWeights(sample_sae().state_dict())
    with pytest.raises(WrongInput, match="sparsify selects the k largest"):
        refuse_unholdable(config(), source, "sparsify", None)
