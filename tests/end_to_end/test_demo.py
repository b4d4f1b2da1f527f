"""`distsae demo`, small, as a user runs it: ten stages, a table, a report; then again, with nothing to do."""

import json
import subprocess
import sys

import pytest

SMALL = ("--max_rows", "20000", "--d_sae", "256", "--k", "8", "--steps", "30", "--batch_tokens", "1024")


def run(out):
    command = [sys.executable, "-m", "distsae", "demo", "--out", str(out), *SMALL]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


@pytest.mark.heavy
@pytest.mark.timeout(1200)
def test_demo(tmp_path):
    out = tmp_path / "demo"
    done = run(out)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "report" / "index.html").stat().st_size > 10_000
    assert f"report: {out / 'report' / 'index.html'}" in done.stdout
    pages = out / "runs" / "feature_choice" / "features" / "index.html"
    assert f"feature pages: {pages}" in done.stdout
    assert pages.exists()
    for name in ("token_choice", "mutual_choice", "feature_choice"):
        evaluation = json.loads((out / "runs" / name / "evaluation.json").read_text())
        assert evaluation["l0"] == pytest.approx(8, rel=0.05)
        assert 0 < evaluation["fvu"] < 1
        assert f"\n{name.replace('_', ' ')}" in done.stdout
        steps = [json.loads(line)["step"] for line in (out / "runs" / name / "metrics.jsonl").read_text().splitlines()]
        assert steps[-1] == 30

    report = out / "report" / "index.html"
    before = report.stat().st_mtime_ns
    again = run(out)
    assert again.returncode == 0
    assert again.stdout.count("finished before") == 10
    assert report.stat().st_mtime_ns == before
