"""Both batch scripts under a real SLURM: submitted, requeued, cancelled, out of time, and with a node that is lost.

pytest tests/clusters/test_slurm.py -m heavy, where the packages slurmctld, slurmd and slurm-client are installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distsae.checkpoint.names import checkpoints
from distsae.store import Store
from tests.clusters.slurm_cluster import SlurmCluster, slurm, why_no_slurm
from tests.clusters.two_nodes import CHANGES, environment
from tests.end_to_end.hold import Hold
from tests.end_to_end.launching import ROOT
from tests.end_to_end.runs import arguments, assert_same_end

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(why_no_slurm()), reason=why_no_slurm()),
]

_SITE = {"DISTSAE_PYTHON": sys.executable, "DISTSAE_REPOSITORY": str(ROOT), "PAUSE": "1"}
"""What a site exports before sbatch."""


@pytest.fixture
def cluster(tmp_path):
    (tmp_path / "logs").mkdir()
    with slurm(tmp_path, "node1", "node2") as running:
        yield running


def _train(cluster: SlurmCluster, folder: Path, store: Path, *options: str) -> tuple[str, Path, Hold]:
    """Submits the training, and waits until both ranks are held at step 10 with two checkpoints."""
    out, hold = folder / "run", Hold(folder, before=10)
    words = ["--chdir", str(folder), "--gpus-per-node=1", "--cpus-per-task=1", *options]
    script = str(ROOT / "launch" / "slurm_train.sh")
    variables = environment(**hold.environment, **_SITE)
    job = cluster.submit(*words, script, *arguments(store, out, **CHANGES)[1:], **variables)
    cluster.until(lambda: len(checkpoints(out / "checkpoints")) == 2)
    return job, out, hold


def _said(folder: Path, job: str) -> str:
    return (folder / "logs" / f"distsae-train-{job}.out").read_text()


def _is_done(cluster, folder, job, out, alone, restarts: str) -> None:
    facts = cluster.ended(job, "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "CANCELLED")
    assert facts["JobState"] == "COMPLETED", _said(folder, job)
    assert facts["Restarts"] == restarts
    assert "resumed from" in _said(folder, job)
    assert_same_end(out, alone)


def test_producers_as_a_job_array(cluster, tiny_store, tiny_model_dir, tiny_corpus, tmp_path):
    """Two tasks share the units; one of them is requeued in the middle of its work."""
    out, values = tmp_path / "store", {"context_length": 32, "max_rows": 9000, "unit_rows": 2000, "chunk_rows": 256}
    values |= {"model": tiny_model_dir, "corpus": tiny_corpus, "hooks": "[blocks.0.resid_post, blocks.1.resid_post]"}
    values |= {"heldout_share": 0.03, "device": "cpu", "out": out}
    words = ["--chdir", str(tmp_path), "--array=0-1", "--cpus-per-task=1", str(ROOT / "launch" / "slurm_produce.sh")]
    words += [word for name, value in values.items() for word in (f"--{name}", str(value))]
    job = cluster.submit(*words, **environment(**_SITE))
    cluster.until((out / "attributes.json").exists)
    cluster("scontrol", "requeue", f"{job}_1")
    cluster.until(lambda: cluster.array_states(job) <= {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"})
    logs = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert cluster.array_states(job) == {"COMPLETED"}, logs
    assert Store.open(out).content_digest == Store.open(tiny_store).content_digest


def test_a_job_whose_time_is_up_is_requeued_and_finishes(cluster, tiny_store, tmp_path, alone):
    """SLURM sends the signal up to a minute early, and counts time in minutes."""
    job, out, hold = _train(cluster, tmp_path, tiny_store, "--signal=B:USR1@100")
    cluster.give_minutes(job, 2)
    cluster.until(lambda: cluster.facts(job)["Restarts"] == "1")
    said = _said(tmp_path, job)
    assert said.count("SIGUSR1: asking the training to stop") == 2, said
    assert f"requeueing job {job}" in said
    assert not (out / "sae").exists()
    cluster.give_minutes(job, 60)
    hold.release()
    _is_done(cluster, tmp_path, job, out, alone, restarts="1")


def test_a_job_that_runs_into_its_time_limit_is_requeued(cluster, tiny_store, tmp_path, alone):
    """It asks for no signal, as if that had come too late: SLURM sends SIGTERM and then waits for KillWait."""
    job, out, hold = _train(cluster, tmp_path, tiny_store, "--signal=B:CONT@1")
    cluster.give_minutes(job, 1)
    cluster.until(lambda: cluster.facts(job)["Restarts"] == "1")
    assert "DUE TO TIME LIMIT" in _said(tmp_path, job)
    cluster.give_minutes(job, 60)
    hold.release()
    _is_done(cluster, tmp_path, job, out, alone, restarts="1")


def test_a_cancelled_job_saves_a_checkpoint_and_stays_away(cluster, tiny_store, tmp_path):
    job, out, _ = _train(cluster, tmp_path, tiny_store)
    cluster("scancel", job)
    facts = cluster.ended(job, "CANCELLED", "COMPLETED", "FAILED")
    assert facts["JobState"] == "CANCELLED"
    cluster.until(lambda: "not requeued from here" in _said(tmp_path, job))
    assert facts["Restarts"] == "0"
    assert checkpoints(out / "checkpoints")[-1].name != "step-00000008"  # one more, from where it was stopped


def test_a_job_that_an_administrator_requeues(cluster, tiny_store, tmp_path, alone):
    job, out, hold = _train(cluster, tmp_path, tiny_store)
    cluster("scontrol", "requeue", job)
    cluster.until(lambda: cluster.facts(job)["JobState"] == "PENDING")
    hold.release()
    _is_done(cluster, tmp_path, job, out, alone, restarts="1")


def test_a_node_that_is_lost(cluster, tiny_store, tmp_path, alone):
    """SLURM requeues the job when it has noticed, and the job goes on with a new node."""
    job, out, hold = _train(cluster, tmp_path, tiny_store)
    lost = cluster.nodes[1]
    cluster.network.lose_power(lost)
    hold.release()
    cluster.until(lambda: cluster.facts(job)["Restarts"] == "1")
    cluster.turn_on(lost)
    _is_done(cluster, tmp_path, job, out, alone, restarts="1")
