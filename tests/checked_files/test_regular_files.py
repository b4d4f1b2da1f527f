import os
import socket

import pytest

from distsae.checked_files import open_regular, read_regular, refuse_links
from distsae.errors import TornData, WrongInput


def test_a_file_is_read_up_to_a_size(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"12345")
    assert read_regular(file, 5) == b"12345"
    with pytest.raises(WrongInput, match=r"must have at most 4 bytes .* got 5"):
        read_regular(file, 4, error=WrongInput)
    os.close(open_regular(file))


def test_a_pipe_a_folder_a_socket_and_a_device_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 108 characters
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for path in (tmp_path / "pipe", tmp_path, tmp_path / "socket"):
            with pytest.raises(TornData, match="is not a regular file"):
                read_regular(path, 10)
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(TornData, match="is not a regular file"):
        read_regular(tmp_path / "zero", 10)


def test_links_are_followed_only_if_the_path_is_the_users(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_bytes(b"1")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "store" / "file").symlink_to(tmp_path / "real" / "f")
    for path in (tmp_path / "store" / "folder" / "f", tmp_path / "store" / "file"):
        assert read_regular(path, 1) == b"1"
        with pytest.raises(TornData, match="is a symbolic link"):
            read_regular(path, 1, tmp_path / "store")
    refuse_links(tmp_path / "real", tmp_path)


def test_missing_files_and_names_that_no_file_has(tmp_path):
    for name in ("none", "null\0byte"):
        with pytest.raises(FileNotFoundError):
            read_regular(tmp_path / name, 1)
