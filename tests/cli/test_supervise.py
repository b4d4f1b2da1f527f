"""`distsae supervise`: arguments before `--` are its own, those after it are for `accelerate launch`."""

from __future__ import annotations

import pytest

from distsae.cli.main import main


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["supervise", *arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith("distsae: error: ")
    assert line.count("\n") == 1
    return line


def test_help_shows_how(capsys):
    assert main(["supervise", "--help"]) == 0
    out = capsys.readouterr().out
    assert "distsae supervise -- --config_file cluster_configs/gpu_8.yaml -m distsae train" in out
    assert "--restarts RESTARTS" in out


def test_a_command_is_needed(capsys):
    assert "must follow `--`" in _refused(capsys, "--restarts", "3")
    assert "must follow `--`" in _refused(capsys, "--restarts", "3", "--")


def test_its_own_keys_come_before(capsys):
    assert "unknown key `restart`; did you mean 'restarts'?" in _refused(capsys, "--restart", "3", "--", "script.py")
    assert "`pause` (=-1.0) must be 0 or more" in _refused(capsys, "--pause", "-1", "--", "script.py")


def test_the_arguments_of_the_launch_are_checked(capsys):
    line = _refused(capsys, "--restarts", "2", "--", "--num_machines", "2", "-m", "distsae", "train")
    assert "`restarts` (=2) must be 0 with num_machines 2" in line


def test_a_second_pair_of_dashes_belongs_to_the_script(capsys):
    assert "`num_machines` (=x)" in _refused(capsys, "--", "--num_machines", "x", "script.py", "--", "--restarts")
