"""`distsae stream`: from text to an SAE in one command, with the same weights however often it was interrupted."""

from __future__ import annotations

import signal
import time

import psutil
import pytest
import torch

from distsae import SAE
from distsae.exit_codes import STOPPED, WRONG_INPUT
from tests.end_to_end.producers import run_distsae, start_distsae
from tests.end_to_end.streams import STEPS, steps_done, stream_words


@pytest.fixture(scope="module")
def words(tiny_model_dir, tmp_path_factory):
    """The command, all but `--out`."""
    return stream_words(tiny_model_dir, tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def undisturbed(words, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "stream"
    done = run_distsae([*words, "--out", str(out)])
    assert done.returncode == 0, done.stderr
    return out, done.stderr


def test_one_command_trains_on_text(undisturbed):
    out, said = undisturbed
    assert steps_done(out) == STEPS
    assert SAE.load(out / "run").cfg.hook_name == "blocks.1.resid_post"
    assert len(list((out / "store" / "data").glob("unit-*"))) <= 4 + 1 + 2
    assert f"producers write to {out / 'producers.log'}" in said
    assert "step 60" in said or "60/60" in said
    assert "tokenise:" in (out / "producers.log").read_text()


def test_killed_and_stopped_it_goes_on_and_nothing_is_left(words, undisturbed, tmp_path):
    command = [*words, "--out", str(tmp_path / "stream")]
    out = tmp_path / "stream"
    for share, number in ((0.2, signal.SIGKILL), (0.6, signal.SIGTERM)):
        stream = start_distsae(command)
        while steps_done(out) < share * STEPS:
            assert stream.poll() is None, stream.communicate()
            time.sleep(0.01)
        tree = psutil.Process(stream.pid).children(recursive=True)
        assert len(tree) >= 4  # two supervisors with a launcher each, and what they started
        stream.send_signal(number)
        stream.communicate(timeout=300)
        assert stream.returncode == (-signal.SIGKILL if number is signal.SIGKILL else STOPPED)
        _, alive = psutil.wait_procs(tree, timeout=60)
        assert not alive
    done = run_distsae(command)
    assert done.returncode == 0, done.stderr
    assert "resumed from" in done.stderr
    ours, other = SAE.load(out / "run"), SAE.load(undisturbed[0] / "run")
    for name, value in ours.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert steps_done(out) == STEPS


def test_a_finished_stream_has_nothing_to_do(words, undisturbed):
    out = undisturbed[0]
    before = (out / "run" / "metrics.jsonl").read_bytes()
    again = run_distsae([*words, "--out", str(out)])
    assert again.returncode == 0, again.stderr
    assert "is finished: nothing to do" in again.stderr
    assert (out / "run" / "metrics.jsonl").read_bytes() == before


def test_what_producers_refuse_ends_the_stream_with_their_words(words, tmp_path):
    command = [
        *words,
        "--out",
        str(tmp_path / "stream"),
        "--produce.hooks",
        "[blocks.1.resid_post, blocks.9.resid_post]",
    ]
    done = run_distsae(command)
    assert done.returncode == WRONG_INPUT, done.stderr
    assert "blocks.9.resid_post" in done.stderr
    assert not (tmp_path / "stream" / "run").exists()
