"""The whole check: parts in order, errors as findings, a time limit, nothing left behind."""

import json

import pytest

from distsae.errors import WrongInput
from distsae.recipes.check import CheckConfig
from distsae.recipes.check.check import run_check
from distsae.recipes.check.finding import Finding

HERE = "distsae.recipes.check.check"


@pytest.fixture
def quick(monkeypatch):
    """Without launches, and with a step of few features."""
    monkeypatch.setattr(f"{HERE}.groups_found", lambda processes, seconds: Finding("exchange", "ok", "quick"))
    monkeypatch.setattr(f"{HERE}.runs_found", lambda *given: [Finding("runs", "ok", "quick")])
    monkeypatch.setattr("distsae.recipes.check.steps.WIDTHS", (256,))


def _config(tmp_path, **changes):
    values = {"folder": str(tmp_path / "work"), "d_in": 16, "batch_tokens": 256, "k": 4, "device": "cpu", **changes}
    return CheckConfig(**values)


def test_every_part_is_shown_and_nothing_is_left(quick, tmp_path):
    lines = []
    file = tmp_path / "new" / "check.json"
    assert run_check(_config(tmp_path, json=str(file)), lines.append) == 0
    found = json.loads(file.read_text())["findings"]
    names = [finding["name"] for finding in found]
    assert names == [
        *("versions", "devices", "kernels", "bf16 margin", "exchange", "reading", "runs"),
        *("bf16 product", "fp32 product", "copy within memory", "step, d_sae 256"),
    ]
    assert {finding["state"] for finding in found} == {"ok"}
    assert len(lines) == len(names) + 1
    assert lines[-1] == "nothing failed"
    assert list((tmp_path / "work").iterdir()) == []


def test_an_error_of_a_part_is_a_finding_and_the_others_go_on(quick, tmp_path, monkeypatch):
    def broken(*given):
        raise RuntimeError("CUDA error: an illegal memory access\nwas encountered")

    monkeypatch.setattr(f"{HERE}.make_store", broken)
    lines = []
    assert run_check(_config(tmp_path), lines.append) == 1
    assert any(
        "RuntimeError: CUDA error: an illegal memory access was encountered" in " ".join(line.split()) for line in lines
    )
    assert lines[-1] == "1 failed: reading"


def test_no_part_begins_once_the_time_is_used_up(quick, tmp_path):
    lines = []
    assert run_check(_config(tmp_path, minutes=1e-9), lines.append) == 0
    assert lines[-1].startswith("nothing failed. 6 skipped: kernels;")


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(WrongInput, match=r"`device` \(=cuda:7\) must be auto or a device of this machine"):
        run_check(_config(tmp_path, device="cuda:7"), print)


@pytest.mark.heavy
def test_this_machine_passes(tmp_path, capsys):
    config = CheckConfig(folder=str(tmp_path), d_in=64, batch_tokens=1024)
    assert run_check(config) == 0
    assert "resumed, mesh" in capsys.readouterr().out
