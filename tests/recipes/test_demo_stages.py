import sys
from pathlib import Path

import pytest
import yaml

from distsae.cli.parsing import parse
from distsae.errors import WrongInput
from distsae.evaluation import EvaluateConfig
from distsae.producer import ProduceConfig
from distsae.recipes import DemoConfig, demo_stages, launch_config
from distsae.reporting import ReportConfig
from distsae.reporting.features import FeaturesConfig
from distsae.training import TrainConfig


@pytest.fixture(scope="module")
def commands():
    return {stage.name: stage.command for stage in demo_stages(DemoConfig(out="demo", d_sae=512, k=8))}


def arguments(command, name):
    """Returns the arguments of `distsae NAME` in a command line."""
    position = command.index("distsae")
    assert command[position - 1] == "-m"
    assert command[position + 1] == name
    return command[position + 2 :]


def test_the_stages_come_in_order(commands):
    assert list(commands) == [
        "corpus",
        "produce",
        *(f"train_{run}" for run in ("token_choice", "mutual_choice", "feature_choice")),
        *(f"evaluate_{run}" for run in ("token_choice", "mutual_choice", "feature_choice")),
        "features",
        "report",
    ]


def test_the_producer_gets_several_units_and_two_processes(commands):
    assert "accelerate.commands.launch" in commands["produce"]
    argv = arguments(commands["produce"], "produce")
    config = parse(ProduceConfig, argv, prog="", examples="", help="")
    assert config.hooks == ("blocks.2.resid_post",)
    assert config.context_length == 128
    assert config.max_rows >= 300_000
    assert config.max_rows // config.unit_rows >= 4


def test_the_trainings_differ_in_allocation_alone(commands):
    runs = {}
    for name in ("token_choice", "mutual_choice", "feature_choice"):
        command = commands[f"train_{name}"]
        assert "accelerate.commands.launch" in command
        argv = arguments(command, "train")
        runs[name] = parse(TrainConfig, argv, prog="", examples="", help="")
    assert {run.mesh.feature for run in runs.values()} == {2}
    assert {run.sae.k for run in runs.values()} == {8}
    assert {run.sae.d_sae for run in runs.values()} == {512}
    assert [(run.allocation, run.aux, run.finetune_fc_from) for run in runs.values()] == [
        ("token_choice", "aux_k", None),
        ("mutual_choice", "aux_zipf", None),
        ("mutual_choice", "aux_zipf", 0.7),
    ]
    assert runs["feature_choice"].quotas == "measured"
    assert len({run.out for run in runs.values()}) == 3


def test_evaluations_and_report_are_the_plain_commands(commands):
    argv = arguments(commands["evaluate_mutual_choice"], "evaluate")
    config = parse(EvaluateConfig, argv, prog="", examples="", help="", positionals=("run",))
    assert (config.run, config.store) == ("demo/runs/mutual_choice", "demo/store")
    assert commands["features"][:4] == (sys.executable, "-m", "distsae", "features")
    pages = parse(FeaturesConfig, commands["features"][4:], prog="", examples="", help="", positionals=("run",))
    assert (pages.run, pages.store) == ("demo/runs/feature_choice", "demo/store")
    assert commands["report"][:4] == (sys.executable, "-m", "distsae", "report")
    report = parse(ReportConfig, commands["report"][4:], prog="", examples="", help="", positionals=("runs",))
    assert report.runs == tuple(f"demo/runs/{run}" for run in ("token_choice", "mutual_choice", "feature_choice"))
    assert report.out == "demo/report"


def test_the_launch_config_is_the_one_for_users():
    root = Path(__file__).parents[2]
    assert launch_config().read_text() == (root / "cluster_configs" / "cpu_2.yaml").read_text()


def test_the_launch_config_starts_two_cpu_processes_on_a_free_port():
    config = yaml.safe_load(launch_config().read_text())
    assert config["distributed_type"] == "MULTI_GPU"  # MULTI_CPU starts one process
    assert config["use_cpu"] is True
    assert config["rdzv_backend"] == "static"
    assert config["num_processes"] == 2
    assert config["main_process_port"] == 0


@pytest.mark.parametrize("name", ["max_rows", "d_sae", "k", "steps", "batch_tokens"])
def test_sizes_that_are_too_small_are_refused(name):
    with pytest.raises(WrongInput, match=name):
        DemoConfig(**{name: 0})
