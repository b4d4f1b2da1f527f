"""A peer's process: batches are handed over, its failures are one line, and it never outlives the study."""

import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from distsae.errors import CannotContinue
from distsae.recipes.study.peers.handover import PeerProcess

FAKE = Path(__file__).with_name("fake_trainer.py")


def _started(before):
    """Returns the children of this process that were not there before; other tests may keep servers running."""
    return [child for child in psutil.Process().children() if child not in before]


def _job(**options):
    sizes = {"d_in": 6, "d_sae": 12, "k": 2, "lr": 1e-2, "seed": 0, "steps": 3, "batch_tokens": 8}
    return {"trainer": str(FAKE), "variant": "v", "options": options, **sizes}


def test_batches_arrive_and_weights_come_back(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(8, 6)
    with PeerProcess(sys.executable, _job(), tmp_path) as process:
        errors = [process.step(part) for part in (x, x, x[:5])]
        weights, facts = process.finish()
    assert errors[1] < errors[0]
    assert {name: tuple(t.shape) for name, t in weights.items()} == {
        "W_enc": (6, 12),
        "W_dec": (12, 6),
        "b_enc": (12,),
        "b_dec": (6,),
        "threshold": (),
    }
    assert facts["rows"] == 21
    assert facts["sum"] == pytest.approx(float(2 * x.double().sum() + x[:5].double().sum()))
    assert facts["torch"] == torch.__version__
    assert [path.name for path in tmp_path.iterdir()] == ["peer.log"]
    assert "what it likes" in (tmp_path / "peer.log").read_text()


def test_a_failure_is_the_last_line_of_its_log_and_the_process_is_gone(tmp_path):
    before = psutil.Process().children()
    with PeerProcess(sys.executable, _job(fail_at=2), tmp_path) as process:
        process.step(torch.randn(8, 6))
        with pytest.raises(CannotContinue, match=r"ValueError: out of luck; see .*peer\.log"):
            process.step(torch.randn(8, 6))
    with pytest.raises(CannotContinue, match="status"):
        PeerProcess(sys.executable, {**_job(), "trainer": str(tmp_path / "none.py")}, tmp_path)
    assert _started(before) == []


def test_it_is_ended_when_the_study_stops(tmp_path):
    def interrupted():
        with PeerProcess(sys.executable, _job(slow=600), tmp_path):
            found.extend(_started(before))
            raise KeyboardInterrupt

    before = psutil.Process().children()
    found = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [child.is_running() for child in found] == [False]


def test_it_ends_by_itself_when_the_study_is_killed(tmp_path):
    before = psutil.Process().children()
    process = PeerProcess(sys.executable, _job(), tmp_path)
    (child,) = _started(before)
    process._process.stdin.close()  # as the system does for a process that is killed
    for _ in range(600):
        if not child.is_running() or child.status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    assert process._process.wait(60) == 1
    process._process.stdout.close()
    assert "is gone" in (tmp_path / "peer.log").read_text()
