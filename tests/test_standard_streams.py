"""What cannot be printed must not end a command: full disks, readers that have gone, streams that were never open."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distsae.standard_streams import OutputLost, show
from tests.end_to_end.launching import ENVIRONMENT, ROOT
from tests.end_to_end.runs import arguments

_GUARDED = "from distsae.standard_streams import guard_standard_streams; guard_standard_streams();"

_TALK = (
    _GUARDED
    + """
import logging, sys, warnings
from distsae.progress import Progress, say
for round in range(3):
    print("said", flush=True)
    print("said", file=sys.stderr)
    say("said")
    warnings.warn(f"said {round}")
    logging.getLogger("any").warning("said")
    with Progress(3, "work", "steps", every=0.0) as progress:
        progress.advance(3, loss=0.5)
print("said and not flushed")
with open(sys.argv[1], "w") as file:
    file.write("worked")
"""
)


@contextlib.contextmanager
def _reader_gone():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@contextlib.contextmanager
def _full_disk():
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


BROKEN = {"reader gone": _reader_gone, "full disk": _full_disk}


def _closed(command: list[str]) -> list[str]:
    """The command, started without any standard stream."""
    return ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", *command]


@pytest.mark.parametrize("broken", BROKEN)
def test_talking_never_raises(broken, tmp_path):
    with BROKEN[broken]() as stream:
        command = [sys.executable, "-c", _TALK, str(tmp_path / "file")]
        done = subprocess.run(command, stdout=stream, stderr=stream, timeout=300, env=ENVIRONMENT)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "worked"


def test_streams_that_are_closed_at_the_start(tmp_path):
    """The first files that a process opens must not become its standard streams."""
    done = subprocess.run(
        _closed([sys.executable, "-c", _TALK, str(tmp_path / "file")]), timeout=300, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "worked"


def test_talking_without_a_guard_never_raises_either(tmp_path):
    """In a notebook or a script of the user's own, `say` and progress alone are ours."""
    code = """
import sys
from distsae.progress import Progress, say
for stream in (sys.stderr, None):
    sys.stderr = stream
    say("said")
    with Progress(3, "work", "steps", every=0.0) as progress:
        progress.advance(3, loss=0.5)
"""
    with _reader_gone() as stream:
        assert subprocess.run([sys.executable, "-c", code], stderr=stream, timeout=300, env=ENVIRONMENT).returncode == 0


def test_letters_that_a_stream_lacks_are_written_out(tmp_path):
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    code = f"{_GUARDED} print('caf\\u00e9 \\udcff')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stdout) == (0, "caf\\xe9 \\udcff\n")


def test_a_pipe_that_does_not_block_gets_everything():
    code = f"{_GUARDED} print('x' * 1_000_000)"
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=writing, env=ENVIRONMENT)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert len(pipe.read()) == 1_000_001
    assert process.wait(300) == 0


def test_show_reports_what_is_lost(monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OutputLost, match="standard output cannot be written: No space left on device"):
        show("a line")


def _distsae(words, **streams):
    return subprocess.run([sys.executable, "-m", "distsae", *words], timeout=300, env=ENVIRONMENT, cwd=ROOT, **streams)


def test_a_product_that_is_lost(tiny_store):
    """As with other Unix tools, `| head` is quiet; a full disk is an error of one line."""
    with _reader_gone() as stream:
        done = _distsae(["store", "info", str(tiny_store)], stdout=stream, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
    with _full_disk() as stream:
        done = _distsae(["store", "info", str(tiny_store)], stdout=stream, stderr=subprocess.PIPE, text=True)
    message = "distsae: error: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.parametrize("broken", [*BROKEN, "closed"])
def test_a_training_goes_on_to_its_end(broken, tiny_store, tmp_path):
    words = arguments(tiny_store, tmp_path / "run", **{"mesh.feature": 1, "steps": 6})
    command = [sys.executable, "-m", "distsae", *words]
    if broken == "closed":
        done = subprocess.run(_closed(command), timeout=300, env=ENVIRONMENT, cwd=tmp_path)
    else:
        with BROKEN[broken]() as stream:
            done = subprocess.run(command, stdout=stream, stderr=stream, timeout=300, env=ENVIRONMENT, cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "run" / "sae" / "config.json").is_file()
    steps = [json.loads(line)["step"] for line in Path(tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 7))
