"""Studies with real trainings and evaluations: one to its end, and one that is killed and stopped on its way."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from distsae.cli.parsing import from_keys
from distsae.recipes.study import StudyConfig
from distsae.recipes.study.at_work import StudyActions
from distsae.recipes.study.peers import Peer
from distsae.recipes.study.study import run_study
from tests.end_to_end.producers import start_distsae

FAKE = Path(__file__).parents[1] / "recipes" / "study" / "peers" / "fake_trainer.py"
PEERS = {"fake": Peer(FAKE, "torch", "mutual_choice", "scale")}
TC = {"name": "TC", "allocation": "token_choice", "aux": "none"}
MC = {"name": "MC+aux_zipf", "allocation": "mutual_choice", "aux": "aux_zipf"}


def test_methods_and_a_peer_are_trained_evaluated_and_set_side_by_side(tiny_store, tmp_path):
    out = tmp_path / "study"
    config = StudyConfig(
        store=str(tiny_store),
        out=str(out),
        methods=[{**MC, "lr": [1e-3, 1e-2]}, {"name": "peer", "peer": "fake"}],
        grid={"k": [4], "d_sae": [64], "lr": [3e-3]},
        common={"steps": 30, "batch_tokens": 256, "hook": "blocks.0.resid_post"},
        evaluate={"max_tokens": 200, "device": "cpu"},
        peers_python=sys.executable,
    )
    assert run_study(config, from_keys, StudyActions(peers=PEERS)) == 0
    table = json.loads((out / "table.json").read_text())
    ours, peer = table["cells"]
    assert [rate["state"] for rate in ours["rates"]] == ["finished", "finished"]
    errors = [rate["heldout_fvu"] for rate in ours["rates"]]
    assert ours["lr"] == (1e-3 if errors[0] < errors[1] else 1e-2)
    for cell in (ours, peer):
        assert 0 < cell["figures"]["fvu"]["mean"] < 1.5
        assert cell["figures"]["l0"]["mean"] == pytest.approx(4, rel=0.4)
        low, high = cell["figures"]["kl"]["ci95"]
        assert low <= cell["figures"]["kl"]["mean"] <= high
    page = (out / "report" / "index.html").read_text()
    assert "MC+aux_zipf" in page
    assert "<svg" in page


@contextmanager
def _study(file: Path, out: Path):
    """Starts a study; it does not outlive the block."""
    process = start_distsae(["study", "--config", str(file), "--out", str(out)])
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _wait(process, condition):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def _logged(out: Path, member: str) -> int:
    log = out / "members" / member / "metrics.jsonl"
    return len(log.read_text().splitlines()) if log.is_file() else 0


@pytest.mark.heavy
@pytest.mark.timeout(2400)
def test_a_study_that_is_killed_and_stopped_ends_as_one_that_is_left_alone(tiny_store, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "store": str(tiny_store),
                "methods": [TC, MC],
                "grid": {"k": [4], "d_sae": [64], "lr": [1e-3, 1e-2], "seed": [0, 1]},
                "common": {
                    **{"steps": 240, "batch_tokens": 256, "hook": "blocks.0.resid_post", "log_every": 1},
                    "checkpoint": {"every": 20},
                },
                "evaluate": {"max_tokens": 200, "device": "cpu"},
            }
        )
    )
    alone, out = tmp_path / "alone", tmp_path / "killed"
    with _study(file, alone) as process:
        _, said = process.communicate()
        assert process.returncode == 0, said

    with _study(file, out) as process:
        _wait(process, lambda: _logged(out, "TC/d_sae-64_k-4_lr-0.001_seed-0") > 50)
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("train" in child.cmdline() for child in family)
        process.kill()
    _, left = psutil.wait_procs(family, timeout=60)
    assert left == []

    with _study(file, out) as process:
        _wait(process, lambda: _logged(out, "MC+aux_zipf/d_sae-64_k-4_lr-0.01_seed-0") > 50)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
        assert process.returncode == 75, said
        assert "resumed from" in said
        assert "the same command goes on" in said

    with _study(file, out) as process:
        _, said = process.communicate()
        assert process.returncode == 0, said
    tables = [json.loads((folder / "table.json").read_text()) for folder in (alone, out)]
    assert tables[0]["cells"] == tables[1]["cells"]
    assert [cell["figures"]["fvu"]["seeds"] for cell in tables[1]["cells"]] == [2, 2]
