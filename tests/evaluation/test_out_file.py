"""An evaluation overwrites an earlier evaluation and nothing else."""

import json

import numpy as np
import pytest

from distsae.errors import WrongInput
from distsae.evaluation import EvaluateConfig
from distsae.evaluation.out_file import out_file


def _config(out):
    return EvaluateConfig(run="run", store="store", out=str(out))


def _arrays(path):
    np.savez(path, density=np.zeros(1), squared_error=np.zeros(1))


def test_an_earlier_evaluation_is_replaced(tmp_path):
    out = tmp_path / "new" / "evaluation.json"
    assert out_file(_config(out)) == out
    assert not out.parent.exists()
    out.parent.mkdir()
    out.write_text(json.dumps({"fvu": 0.5, "frozen_rule": {}, "sae": "run/sae", "more": 1}))
    _arrays(out.with_suffix(".npz"))
    assert out_file(_config(out)) == out
    out.unlink()  # a kill came between the two files
    assert out_file(_config(out)) == out


@pytest.mark.parametrize("content", ["", "notes", "[]", '{"fvu": 1}', "[" * 100_000, "\ud800"])
def test_another_file_is_kept(content, tmp_path):
    out = tmp_path / "config.json"
    out.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(WrongInput, match=r"must be a new file or an earlier evaluation.*choose another name"):
        out_file(_config(out))


def test_arrays_of_somebody_else_are_kept(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros(1))
    with pytest.raises(WrongInput, match=r"got .*data\.npz, which is neither"):
        out_file(_config(tmp_path / "data.json"))


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongInput, match=r"got .*/file, which is a file"):
        out_file(_config(tmp_path / "file" / "evaluation.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(WrongInput, match="choose another name"):
        out_file(_config(tmp_path / "folder.json"))


def test_refused_before_anything_is_opened(tmp_path):
    from distsae.evaluation import evaluate

    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WrongInput, match="must be a new file"):
        evaluate(_config(tmp_path / "config.json"))
    assert (tmp_path / "config.json").read_text() == "{}"
