import os

import numpy as np
import pytest

from distsae.activation_files.npy_file import mapped_npy
from distsae.errors import WrongInput


def test_an_array_is_mapped(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(3))
    mapped = mapped_npy(tmp_path / "a.npy")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, np.eye(3))


@pytest.mark.parametrize("damage", ["short", "text", "empty", "objects"])
def test_other_files_are_refused_in_one_line(damage, tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, np.array([{}], object) if damage == "objects" else np.eye(30), allow_pickle=True)
    if damage != "objects":
        file.write_bytes({"short": file.read_bytes()[:-8], "text": b"hello" * 50, "empty": b""}[damage])
    with pytest.raises(WrongInput, match=f"`activations` file {file} must be a whole npy file of numbers") as error:
        mapped_npy(file)
    assert "\n" not in str(error.value)


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(WrongInput):
        mapped_npy(tmp_path / "a.npy")
