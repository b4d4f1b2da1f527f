"""`distsae plan`: help, a table, JSON, and wrong input in one line."""

import json

import pytest
import torch.distributed as dist

from distsae.cli.main import main
from distsae.cli.plan import EXAMPLES

SIZES = ["--d_in", "768", "--d_sae", "131072", "--gpus", "8"]


def test_help_lists_examples(capsys):
    assert main(["plan", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(line.strip() in shown for line in EXAMPLES.strip().splitlines())


def test_a_table_and_json(capsys):
    assert main(["plan", *SIZES, "--hardware", "l40s"]) == 0
    assert "8 x l40s, 8 a machine; times are computed" in capsys.readouterr().out
    assert main(["plan", *SIZES, "--json", "--memory_gb", "10"]) == 0
    assert json.loads(capsys.readouterr().out)["gpus"] == 8
    assert not dist.is_initialized()


@pytest.mark.parametrize("example", [line for line in EXAMPLES.strip().splitlines() if "--store" not in line])
def test_examples_run(example, capsys):
    words = example.split()
    if "--model" in words:  # the machine of a test may reach no hub
        words += ["--d_in", "4096", "--model_parameters", "3.5e9"]
    assert main(words[1:]) == 0
    assert "bottleneck" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--d_sae", "4096"],
        [*SIZES, "--hardware", "b200"],
        [*SIZES, "--data", "3"],
        [*SIZES, "--check", "nowhere.json"],
        [*SIZES, "--store", "nowhere"],
        [*SIZES, "--k", "0"],
        [*SIZES, "--fsdp", "1"],
        [],
    ],
)
def test_wrong_input_is_one_line_and_code_2(arguments, capsys):
    assert main(["plan", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
