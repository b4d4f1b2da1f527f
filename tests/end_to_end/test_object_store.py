"""A store in a bucket, from text to a trained SAE: made by producers of which one is killed, read by a run."""

from __future__ import annotations

import json
import signal
import time
import uuid

import pytest
import torch

from distsae import SAE
from distsae.cli.main import main
from distsae.store import Store, collect_orphans, location
from distsae.store.location import entries
from tests.end_to_end.producers import Job, run_distsae

SETTINGS = {"context_length": 32, "max_rows": 9000, "unit_rows": 900, "chunk_rows": 256}


@pytest.fixture(scope="module")
def job(tiny_model_dir, tiny_corpus):
    return Job(tiny_model_dir, tiny_corpus, SETTINGS)


@pytest.fixture(scope="module")
def folder(job, tmp_path_factory):
    """The same store, made by one process in a folder."""
    out = tmp_path_factory.mktemp("stores") / "folder"
    assert main(job.arguments(out)) == 0
    return Store.open(out)


@pytest.fixture(scope="module")
def bucket(job, object_store):
    """The URL of a store that two producers made, after a third one had been killed in the middle of a unit."""
    url = f"{object_store}/{uuid.uuid4().hex}"
    victim = job.start(url)
    while not entries(location(url) / "commits", "unit-"):
        assert victim.poll() is None, victim.communicate()
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    with pytest.raises(Exception, match="of 11 units"):
        Store.open(url)
    producers = [job.start(url, RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank)) for rank in range(2)]
    errors = [producer.communicate(timeout=200)[1] for producer in producers]
    assert [producer.returncode for producer in producers] == [0, 0], errors
    return url


def test_the_same_rows_as_in_a_folder(bucket, folder):
    store = Store.open(bucket)
    assert store.content_digest == folder.content_digest
    assert (location(bucket) / "dataset.json").read_bytes() == (folder.path / "dataset.json").read_bytes()
    for hook in store.attributes.hooks:
        assert all(torch.equal(store.read_chunk(hook, c), folder.read_chunk(hook, c)) for c in store.chunks())


def test_the_commands(bucket, capsys):
    assert main(["store", "verify", bucket]) == 0
    assert "whole" in capsys.readouterr().out
    assert main(["store", "info", bucket, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["units"] == 11
    assert main(["store", "status", bucket, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "finished"
    assert main(["store", "collect", bucket]) == 0  # what the killed one left
    assert collect_orphans(location(bucket)) == (0, 0, 0)
    assert main(["store", "verify", bucket]) == 0


def test_a_finished_store_says_so(job, bucket, capsys):
    assert main(job.arguments(bucket)) == 0
    assert f"{bucket} is finished: nothing to do" in capsys.readouterr().err


def test_training_reads_it_as_it_reads_a_folder(bucket, folder, tmp_path):
    weights = []
    for number, store in enumerate((bucket, folder.path)):
        out = tmp_path / str(number)
        arguments = ["train", "--store", str(store), "--hook", "blocks.1.resid_post", "--out", str(out)]
        settings = ["--steps", "6", "--batch_tokens", "256", "--sae.d_sae", "64", "--sae.k", "4", "--wandb", "off"]
        assert main([*arguments, *settings]) == 0
        weights.append(SAE.load(out / "sae").W_dec)
    assert torch.equal(*weights)


def test_a_bucket_that_does_not_exist_is_wrong_input(job, object_store):
    done = run_distsae(job.arguments("s3://no-such-bucket/store"))
    assert done.returncode == 2
    assert "must be in a bucket that exists" in done.stderr
    assert done.stderr.count("error") == 1
