"""A launch that cannot be started again is refused in one line; a launch on one machine gets a free port."""

from __future__ import annotations

import json

import pytest
import yaml

from distsae.errors import WrongInput
from distsae.launching.command import checked_arguments
from tests.end_to_end.launching import ROOT

CONFIGS = ROOT / "cluster_configs"
ONE = ["--config_file", str(CONFIGS / "cpu_2.yaml")]
MANY = ["--config_file", str(CONFIGS / "multinode.yaml")]
TRAIN = ["-m", "distsae", "train", "--store", "s", "--out", "o"]


@pytest.fixture(autouse=True)
def no_config_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    return tmp_path / "huggingface" / "accelerate" / "default_config.yaml"


def test_one_machine_gets_a_free_port():
    assert checked_arguments([*ONE, *TRAIN], 5) == ["--main_process_port", "0", *ONE, *TRAIN]


@pytest.mark.parametrize("port", [["--main_process_port", "29501"], ["--main-process-port=29501"]])
def test_a_given_port_is_kept(port):
    assert checked_arguments([*ONE, *port, *TRAIN], 5) == [*ONE, *port, *TRAIN]


@pytest.mark.parametrize(
    "launch", [MANY, [*ONE, "--num_machines", "2"], ["--num-machines=2"], [*MANY, "--num_machines", "3"]]
)
def test_restarts_on_several_machines_are_refused(launch):
    arguments = [*launch, *TRAIN]
    with pytest.raises(WrongInput, match=r"`restarts` \(=1\) must be 0 with num_machines [23].*slurm_train.sh"):
        checked_arguments(arguments, 1)
    assert checked_arguments(arguments, 0) == arguments


def test_the_command_line_overrides_the_number_of_machines_in_the_config():
    checked_arguments([*MANY, "--num_machines", "1", *TRAIN], 5)


def test_the_default_config_of_accelerate_counts(no_config_of_the_user):
    checked_arguments(TRAIN, 5)
    no_config_of_the_user.parent.mkdir(parents=True)
    no_config_of_the_user.write_text(json.dumps({"num_machines": 4}))
    with pytest.raises(WrongInput, match="num_machines 4"):
        checked_arguments(TRAIN, 5)


@pytest.mark.parametrize(
    ("launch", "wrong"),
    [
        (["--config_file", "nowhere.yaml"], r"`config_file` \(=nowhere.yaml\) must be"),
        (["--num_machines", "two"], r"`num_machines` \(=two\) must be a whole number"),
    ],
)
def test_wrong_arguments_of_accelerate_are_named(launch, wrong):
    with pytest.raises(WrongInput, match=wrong):
        checked_arguments([*launch, *TRAIN], 0)


def test_an_empty_command_is_refused():
    with pytest.raises(WrongInput, match="must follow `--`"):
        checked_arguments([], 5)


@pytest.mark.parametrize("resume", [["--resume", "none"], ["--resume=none"]])
def test_a_run_that_would_not_resume_is_refused(resume):
    for restarts in (0, 5):
        with pytest.raises(WrongInput, match=r"`resume` \(=none\) must be auto under supervise"):
            checked_arguments([*ONE, *TRAIN, *resume], restarts)


def test_a_run_may_start_from_a_checkpoint():
    """After a restart it resumes from its own checkpoints."""
    arguments = [*ONE, *TRAIN, "--resume", "o/checkpoints/step-00000100"]
    assert checked_arguments(arguments, 5)[-2:] == arguments[-2:]


def test_the_training_config_counts_and_arguments_override_it(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({"store": "s", "resume": "none"}))
    arguments = [*ONE, "-m", "distsae", "train", "--config", str(path)]
    with pytest.raises(WrongInput, match="`resume`"):
        checked_arguments(arguments, 5)
    checked_arguments([*arguments, "--resume", "auto"], 5)


def test_arguments_of_other_programs_are_not_checked():
    checked_arguments([*ONE, "script.py", "--resume", "none", "--num_machines", "7"], 5)
