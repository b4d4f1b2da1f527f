"""Training as a user starts it: alone, under accelerate launch on two processes, killed and started again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from distsae import SAE
from distsae.cli.main import main
from tests.end_to_end.hold import Hold
from tests.end_to_end.launching import ENVIRONMENT, launch
from tests.end_to_end.runs import arguments, assert_same_but_for_rounding


def _arguments(store: Path, out: Path, **changes: object) -> list[str]:
    """Ten steps of one process."""
    short = {"steps": 10, "finetune_fc_from": 0.4, "quota_refresh": 2, "mesh.feature": 1}
    return arguments(store, out, **(short | changes))


def _metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tiny_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(_arguments(tiny_store, out)) == 0
    return out


@pytest.mark.parametrize(
    ("mesh", "processes"),
    [
        pytest.param({"mesh.feature": 2}, 2, id="1x2"),
        pytest.param({"mesh.data": 2}, 2, id="2x1", marks=pytest.mark.heavy),
        pytest.param({"mesh.data": 2, "engine": "deepspeed", "deepspeed.zero_stage": 2}, 2, id="2x1 deepspeed"),
        pytest.param({"mesh.feature": 2, "engine": "deepspeed"}, 2, id="1x2 deepspeed", marks=pytest.mark.heavy),
        pytest.param({"mesh.feature": 3}, 3, id="1x3", marks=pytest.mark.heavy),  # shards of 43, 43 and 42 features
    ],
)
def test_several_processes_train_what_one_does(mesh, processes, alone, tiny_store, tmp_path):
    if mesh.get("engine") == "deepspeed":
        pytest.importorskip("deepspeed")
    done = launch(_arguments(tiny_store, tmp_path / "run", **mesh), processes)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("training d_sae 128") == 1  # one process speaks for both
    assert done.stderr.count(f"wrote {tmp_path / 'run' / 'sae'}") == 1
    assert done.stderr.count("frozen rule on 128 held-out rows: L0 ") == 1
    lines, expected = _metrics(tmp_path / "run"), _metrics(alone)
    assert [line["step"] for line in lines] == list(range(1, 11))
    for line, other in zip(lines, expected, strict=True):
        for name in ("loss", "fvu", "aux_loss", "l0", "grad_norm", "threshold", "lr"):
            assert line[name] == pytest.approx(other[name], rel=1e-4), (line["step"], name)
        for name in (
            "tokens",
            "dead_share",
            "underutilised_share",
            "aux_share",
            "allocation",
            "shortfall",
            "token_overlap",
        ):
            assert line[name] == other[name], (line["step"], name)
        assert line["selection_collectives"] > 0
        assert line["selection_kilobytes"] > 0
    sae, single = SAE.load(tmp_path / "run"), SAE.load(alone)
    assert sae.cfg == single.cfg
    assert_same_but_for_rounding(sae, single)


@pytest.mark.heavy
def test_a_run_goes_on_with_another_number_of_processes(alone, tiny_store, tmp_path):
    """Five steps on one process, the last one with quotas, killed; the rest on two, which rank the features again."""
    import shutil

    out = tmp_path / "run"
    assert main(_arguments(tiny_store, out, **{"checkpoint.every": 5})) == 0
    shutil.rmtree(out / "checkpoints" / "step-00000010")
    shutil.rmtree(out / "sae")
    done = launch(_arguments(tiny_store, out, **{"checkpoint.every": 5, "mesh.feature": 2}))
    assert done.returncode == 0, done.stderr
    assert "resumed from" in done.stderr
    assert "step 7: features ranked again" in done.stderr
    for line, other in zip(_metrics(out), _metrics(alone), strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert_same_but_for_rounding(SAE.load(out), SAE.load(alone))


def test_wrong_input_under_accelerate_launch_is_said_once(tiny_store, tmp_path):
    """Also if the one that says so comes to it last: the launcher ends all processes when the first one has ended."""
    script = tmp_path / "late.py"
    script.write_text(
        "import os, sys, time\nfrom distsae.cli.main import main\n"
        "time.sleep(2 if os.environ['RANK'] == '0' else 0)\nsys.exit(main(sys.argv[1:]))\n"
    )
    done = launch(_arguments(tiny_store, tmp_path / "run", **{"mesh.feature": 4}), program=[str(script)])
    assert done.returncode != 0
    assert done.stderr.count("distsae: error") == 1
    assert "distsae: error: `mesh.data` * `mesh.feature` (=1 * 4) must equal" in done.stderr
    assert not (tmp_path / "run").exists()


def test_killed_at_any_step_and_started_again(tiny_store, tmp_path):
    """The killed process has as many threads as this one: the last bit of a product depends on it."""
    changes = {"steps": 30, "checkpoint.every": 7, "log_every": 3}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    hold = Hold(tmp_path, before=29)
    process = subprocess.Popen(
        [sys.executable, "-m", "distsae", *_arguments(tiny_store, killed, **changes)],
        env={**ENVIRONMENT, **hold.environment, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    while not (killed / "checkpoints" / "step-00000007").is_dir():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "sae").exists()
    assert main(_arguments(tiny_store, killed, **changes)) == 0
    assert main(_arguments(tiny_store, straight, **changes)) == 0
    assert (killed / "sae" / "sae.safetensors").read_bytes() == (straight / "sae" / "sae.safetensors").read_bytes()
    times = ("seconds", "tokens_per_second")
    lines = [
        [{k: v for k, v in line.items() if k not in times} for line in _metrics(out)] for out in (killed, straight)
    ]
    assert lines[0] == lines[1]
