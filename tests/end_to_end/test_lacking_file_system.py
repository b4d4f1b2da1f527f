"""Text to a finished run where the file system lacks an operation: it works all the same, or says so at once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distsae.store import Store, verify_store
from tests.end_to_end.launching import train_words
from tests.end_to_end.producers import ROOT, Job, committed
from tests.lacking import lacking

SETTINGS = {"hooks": "[blocks.1.resid_post]", "unit_rows": 2_000, "max_rows": 6_000, "chunk_rows": 64}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return tmp_path_factory.mktemp("built")


@pytest.fixture
def job(tiny_model_dir: Path, tiny_corpus: Path) -> Job:
    return Job(tiny_model_dir, tiny_corpus, SETTINGS)


def _training(store: Path, out: Path, steps: int) -> list[str]:
    values = {
        "store": store,
        "out": out,
        "hook": "blocks.1.resid_post",
        "steps": steps,
        "batch_tokens": 256,
        "sae.d_sae": 64,
        "sae.k": 4,
        "checkpoint.every": 5,
        "wandb": "off",
    }
    return train_words(values)


def _run(arguments: list[str], environment: dict[str, str], limit: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distsae", *arguments]
    if limit:
        command = ["bash", "-c", f'{limit} && exec "$@"', "bash", *command]
    known = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=known)


def _from_text_to_a_resumed_run(job: Job, folder: Path, environment: dict[str, str], limit: str = "") -> None:
    store, out = folder / "store", folder / "run"
    produced = _run(job.arguments(store), environment, limit)
    assert produced.returncode == 0, produced.stderr
    assert verify_store(Store.open(store)) == []
    for steps in (10, 15):
        trained = _run(_training(store, out, steps), environment, limit)
        assert trained.returncode == 0, trained.stderr
    assert f"resumed from {out}/checkpoints/step-00000010" in trained.stderr
    assert (out / "sae" / "config.json").is_file()


CAN_DO_WITHOUT = [
    {"link": errno.EOPNOTSUPP},
    {"link": errno.EPERM},
    {"link": errno.ENOSYS},
    {"sync_folder": errno.EINVAL},
    {"mmap": errno.ENODEV},
    {"preadv": errno.EOPNOTSUPP},
    {"link": errno.EPERM, "sync_folder": errno.ENOSYS, "mmap": errno.ENODEV, "preadv": errno.ENOSYS},
]


@pytest.mark.heavy
@pytest.mark.parametrize("operations", CAN_DO_WITHOUT[:-1], ids=str)
def test_it_works_without(job, tmp_path, built, operations):
    _from_text_to_a_resumed_run(job, tmp_path, lacking(tmp_path, built, **operations))


def test_it_works_without_all_of_these(job, tmp_path, built):
    _from_text_to_a_resumed_run(job, tmp_path, lacking(tmp_path, built, **CAN_DO_WITHOUT[-1]))


def test_it_works_with_few_descriptors(job, tmp_path):
    _from_text_to_a_resumed_run(job, tmp_path, {}, "ulimit -n 96")


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        ({"link": errno.EPERM, "exclusive": errno.EINVAL}, "create a file only if its name is free"),
        ({"rename": errno.EOPNOTSUPP}, "replace a file"),
        ({"rename_folder": errno.EXDEV}, "rename a folder"),
        ({"sync": errno.EINVAL}, "force it to the disk"),
    ],
    ids=str,
)
def test_what_cannot_be_done_without_is_named_before_the_work_begins(
    job, tiny_store, tmp_path, built, operations, words
):
    environment = lacking(tmp_path, built, **operations)
    commands = [job.arguments(tmp_path / "store")]
    if "link" not in operations:  # a run has no races
        commands.append(_training(tiny_store, tmp_path / "run", 5))
    for command in commands:
        ended = _run(command, environment)
        assert ended.returncode == 2, ended.stderr
        last = ended.stderr.strip().splitlines()[-1]
        assert last.startswith(f"distsae: error: `out` (={tmp_path}/")
        assert words in last
        assert "; use a folder on another one" in last
        assert "tokenising" not in ended.stderr
    assert not committed(tmp_path / "store")
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert left == []
