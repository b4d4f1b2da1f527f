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


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"machines": 0}, "`machines` .* at least 1"),
        ({"machine_rank": 1}, "`machine_rank`"),
        ({"machines": 2, "machine_rank": 2, "main_process_ip": "node0"}, "must be from 0 to 1"),
        ({"machines": 2}, "`main_process_ip`"),
        ({"main_process_ip": "node0"}, "`main_process_ip`"),
        ({"main_process_port": 0}, "`main_process_port`"),
    ],
)
def test_machines_know_their_rank_and_where_to_meet(tmp_path, keys, message):
    with pytest.raises(WrongInput, match=message):
        config(tmp_path, **keys)


def test_producers_of_each_machine_have_a_log_of_their_own(tmp_path):
    assert config(tmp_path).log == tmp_path / "producers.log"
    assert config(tmp_path, machines=2, main_process_ip="node0").log == tmp_path / "producers-0.log"
