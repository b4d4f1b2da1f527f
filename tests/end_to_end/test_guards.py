"""What a user sees of a run that hangs, loses a process, is started unlike itself, or leaves the finite numbers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from safetensors.torch import load_file

from distsae.checkpoint import newest
from distsae.checkpoint.names import checkpoints, step_of
from tests.end_to_end.launching import ENVIRONMENT, ROOT, launch, train_words
from tests.training.broken_numbers import store_with_broken_row

_CONFIG = str(ROOT / "cluster_configs" / "cpu_2.yaml")
_LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", _CONFIG]
HOOK, TOKENS = "blocks.0.resid_post", 256


def _arguments(store: Path, out: Path, **changes: object) -> list[str]:
    values = {
        "store": store,
        "out": out,
        "hook": HOOK,
        "steps": 100_000,
        "batch_tokens": TOKENS,
        "sae.d_sae": 128,
        "sae.k": 4,
        "optimizer.lr": 2e-3,
        "checkpoint.every": 2,
        "checkpoint.keep_last": 9,
        "log_every": 1,
        "wandb": "off",
    }
    return train_words(values | changes)


class _Job:
    """Two processes under accelerate launch, and what they have printed so far."""

    def __init__(self, arguments: list[str]) -> None:
        self.launcher = subprocess.Popen(
            [*_LAUNCH, "-m", "distsae", *arguments], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT
        )
        self.said = ""

    def until(self, words: str) -> None:
        """Reads on until something is said."""
        assert self.launcher.stderr is not None
        while words not in self.said:
            line = self.launcher.stderr.readline()
            assert line, self.said
            self.said += line

    def until_saved(self, out: Path, beyond: int = 0) -> int:
        """Waits for a checkpoint of a step beyond one that is given, and returns its step."""
        while True:
            newest_step = max((step_of(path) or 0 for path in checkpoints(out / "checkpoints")), default=0)
            if newest_step > beyond:
                return newest_step
            assert self.launcher.poll() is None, self.end()
            time.sleep(0.01)

    def rank(self, number: int) -> psutil.Process:
        (found,) = [
            child
            for child in psutil.Process(self.launcher.pid).children(recursive=True)
            if child.environ().get("RANK") == str(number) and "distsae" in child.cmdline()
        ]
        return found

    def end(self) -> int:
        assert self.launcher.stderr is not None
        self.said += self.launcher.stderr.read()
        return self.launcher.wait()


@contextmanager
def _job(arguments: list[str], seconds: float = 300) -> Iterator[_Job]:
    job = _Job(arguments)
    limit = threading.Timer(seconds, job.launcher.kill)
    limit.start()
    try:
        yield job
    finally:
        limit.cancel()
        if job.launcher.poll() is None:
            for process in [*psutil.Process(job.launcher.pid).children(recursive=True), job.launcher]:
                process.kill()
            job.launcher.wait()


def test_a_rank_that_is_stopped_is_named_by_the_other(tiny_store, tmp_path):
    out = tmp_path / "run"
    with _job(_arguments(tiny_store, out, **{"mesh.feature": 2, "hang_seconds": 12})) as job:
        first = job.until_saved(out)
        time.sleep(3)  # five beats of each rank: what they told last is of the training
        job.until_saved(out, beyond=first + 2)
        stopped = job.rank(1)
        stopped.suspend()
        job.until("larger `hang_seconds`")
        stopped.kill()  # the launcher would do so half a minute later
        assert job.end() == 1
    assert "distsae: error (rank 0 on " in job.said
    assert re.search(r": no progress for \d+ s, longer than `hang_seconds`", job.said)
    line = next(line for line in job.said.splitlines() if line.strip().startswith("rank 1 on "))
    assert re.search(r": last heartbeat \d+ s ago; step ", line)
    assert "check the machine of rank 1 first; start the same command again" in job.said
    assert "in train_runs" in job.said  # the stack of the main thread
    assert newest(out / "checkpoints")[0] is not None


def test_a_rank_that_is_killed_is_one_line_of_the_other(tiny_store, tmp_path):
    out = tmp_path / "run"
    with _job(_arguments(tiny_store, out, **{"mesh.feature": 2})) as job:
        job.until_saved(out)
        job.rank(1).kill()
        assert job.end() == 1
    (line,) = [line for line in job.said.splitlines() if line.startswith("distsae: error")]
    assert "distsae: error: step " in line
    assert ": lost connection to another rank (" in line
    assert "start the same command again to resume from the newest checkpoint" in line
    assert "in train_runs" not in job.said  # no traceback of ours
    assert newest(out / "checkpoints")[0] is not None


def test_processes_that_were_told_otherwise_end_before_anything_is_written(tiny_store, tmp_path):
    """Each process has its own environment, and from it its own config."""
    script = tmp_path / "unlike.py"
    script.write_text(
        "import os, sys\nfrom distsae.cli.main import main\n"
        "sys.exit(main([*sys.argv[1:], '--sae.k', '4' if os.environ['RANK'] == '0' else '5']))\n"
    )
    arguments = _arguments(tiny_store, tmp_path / "run", **{"mesh.feature": 2})
    done = launch(arguments, program=[str(script)])
    assert done.returncode != 0
    host = os.uname().nodename
    assert (
        f"distsae: error: `sae.k` must be the same on every process; got 4 on rank 0 (host {host}), 5 on rank 1 "
        f"(host {host}); start every process with the same arguments and the same config file"
    ) in done.stderr
    assert done.stderr.count("distsae: error") == 1
    assert not (tmp_path / "run").exists()


def test_a_store_with_a_broken_row_ends_with_3_and_what_tells_why(tiny_store, tmp_path):
    out = tmp_path / "run"
    store = store_with_broken_row(tiny_store, tmp_path / "store", HOOK, TOKENS, of_step=5, value=float("nan"))
    done = subprocess.run(
        [sys.executable, "-m", "distsae", *_arguments(store, out)],
        capture_output=True,
        text=True,
        timeout=300,
        env=ENVIRONMENT,
    )
    assert done.returncode == 3
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("distsae: error")]
    assert "distsae: error: step 6: 128 scores are not finite" in line
    assert f"batch: 1 numbers in row 0; {out}/diagnosis/step-00000006 has the batch" in line
    assert "Traceback" not in done.stderr
    bundle = out / "diagnosis" / "step-00000006"
    assert json.loads((bundle / "rank-00000.json").read_text())["tensors"]["batch"]["rows"] == [0]
    batch = load_file(bundle / "rank-00000.safetensors")["batch"]
    assert batch.isnan().nonzero().tolist() == [[0, 3]]
    assert newest(out / "checkpoints")[0].name == "step-00000004"
    assert newest(out / "checkpoints")[1] == []
