"""Keys of a stream that make no sense are refused."""

import pytest

from distsae.errors import WrongInput
from tests.recipes.stream.samples import config


@pytest.mark.parametrize("keys", [{"producers": 0}, {"trainers": 0}, {"producers": -1}])
def test_numbers_of_processes_are_at_least_one(tmp_path, keys):
    with pytest.raises(WrongInput, match="must be at least 1"):
        config(tmp_path, **keys)


def test_the_folder_is_no_file_and_no_bucket(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WrongInput, match="must be a folder; got a file"):
        config(tmp_path / "file")
    with pytest.raises(WrongInput, match="`out`"):
        config("s3://bucket/stream")
