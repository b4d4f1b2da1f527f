"""The program as a user meets it: exit codes, errors of one line, help with examples."""

import contextlib
import errno
import gc
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from distsae import __version__
from distsae.cli.main import COMMANDS, main
from distsae.errors import CannotContinue


def run(*arguments, **environment):
    """Runs the program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "distsae", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_examples(command, capsys):
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "examples:" in out
    assert f"distsae {command}" in out.partition("examples:")[2]


def test_overview_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in out
    assert main(["-h"]) == 0
    assert main([]) == 2  # nothing was done


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"distsae {__version__}\n"


def test_unknown_command_names_the_nearest(capsys):
    assert main(["trian"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("distsae: error: unknown command `trian`; did you mean 'train'?")
    assert err.count("\n") == 1


def test_other_ranks_leave_the_report_to_the_first(capsys, monkeypatch):
    class Ended(BaseException):
        """Stands for the signal of a launcher after the first process has ended."""

    def ended(seconds):
        raise Ended

    monkeypatch.setenv("RANK", "9")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(Ended):
        main(["train", "--nonsense", "1"], wait=ended)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("LOCAL_RANK", "0")  # the first of another machine, which may see other files
    assert main(["train", "--nonsense", "1"], wait=ended) == 2
    assert capsys.readouterr().err.startswith("distsae: error (rank 9 on ")


def test_a_rank_that_alone_has_met_an_error_reports_it_after_a_while(capsys, monkeypatch):
    waited = []
    monkeypatch.setenv("RANK", "9")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["train", "--nonsense", "1"], wait=waited.append) == 2
    assert capsys.readouterr().err.startswith("distsae: error (rank 9 on ")
    assert waited == [30]


def test_a_file_in_the_way_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "demo")]) == 1
    assert capsys.readouterr().err.splitlines() == [f"distsae: error: Not a directory: {tmp_path}/file/demo"]


def test_ctrl_c_is_no_traceback(capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    assert main(["train"], run=interrupted) == 130
    assert capsys.readouterr().err.count("\n") <= 1


def test_bugs_keep_their_traceback():
    def broken(argv):
        raise AssertionError("an invariant")

    with pytest.raises(AssertionError):
        main(["train"], run=broken)


def test_damaged_data_is_one_line_and_exit_code_1(capsys):
    from distsae.errors import TornData

    def torn(argv):
        raise TornData("chunk 7\nis damaged")

    assert main(["train"], run=torn) == 1
    assert capsys.readouterr().err == "distsae: error: chunk 7 is damaged\n"


def test_as_a_real_process(tmp_path):
    unknown = run("evaluat")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    assert "did you mean 'evaluate'?" in unknown.stderr
    missing = run("train", "--store", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert (missing.returncode, missing.stderr.count("\n"), missing.stdout) == (2, 1, "")
    assert str(tmp_path / "nowhere") in missing.stderr
    assert not (tmp_path / "run").exists()


def test_help_needs_no_torch():
    """`--help` is fast because no heavy library is imported for it."""
    code = (
        "import sys; from distsae.cli.main import main; main(['--help']); "
        "sys.exit(bool({'torch', 'transformers', 'accelerate', 'zarr'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_closed_pipe_gives_no_traceback():
    command = [sys.executable, "-u", "-m", "distsae", "--help"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=300)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_threads_of_process_groups_end_with_the_command(tmp_path, monkeypatch):
    """A thread that releases a tensor while Python shuts down aborts the process, after all work was done."""

    def threads():
        names = []
        for task in Path("/proc/self/task").glob("*/comm"):
            with contextlib.suppress(OSError):  # a thread that has just ended
                names.append(task.read_text().strip())
        return names

    def soon(there):
        """Waits, since a new thread has no name yet and one that has ended may still be listed."""
        for _ in range(6000):
            if ("pt_gloo_runloop" in threads()) == there:
                return True
            time.sleep(0.01)
        return False

    def command(argv):
        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
        cycle = [dist.group.WORLD]
        cycle.append(cycle)
        dist.destroy_process_group()
        assert soon(there=True), threads()
        return 0

    monkeypatch.setenv("WORLD_SIZE", "2")
    gc.disable()
    try:
        assert main([], run=command) == 0
        assert soon(there=False), threads()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CannotContinue("a full GPU"), 1, "distsae: error: a full GPU\n"),
        (KeyboardInterrupt(), 130, ""),
        (AssertionError("an invariant"), 1, "AssertionError: an invariant\n"),
    ],
)
def test_a_failure_inside_a_process_group_ends_the_process_at_once(tmp_path, capsys, error, code, said):
    """While Python shuts down it would end the group, which on NCCL means to wait for all ranks."""

    class Left(BaseException):
        """Stands for the end of the process."""

    def command(argv):
        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
        raise error

    def leave(with_code):
        assert with_code == code
        assert dist.is_initialized()
        assert capsys.readouterr().err.endswith(said)  # before it ends
        raise Left

    try:
        with pytest.raises(Left):
            main([], run=command, leave=leave)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EMFILE, r"; raise the limit of open files \(`ulimit -n`\)"),
        (errno.EOPNOTSUPP, "; the file system lacks this operation; use a folder on another one"),
        (errno.ENODEV, "; the file system lacks this operation; use a folder on another one"),
    ],
)
def test_what_a_machine_or_file_system_lacks_is_one_line_with_advice(number, advice, capsys):
    def lacking(argv):
        raise OSError(number, os.strerror(number), "some/file")

    assert main(["demo"], run=lacking) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"distsae: error: {os.strerror(number)}: some/file{advice}", line)
