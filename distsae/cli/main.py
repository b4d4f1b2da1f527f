"""`distsae COMMAND ...`: runs a command and turns its errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from distsae.cli.missing_packages import missing_package
from distsae.environment import check_environment
from distsae.errors import DistsaeError, Diverged, WrongInput, nearest
from distsae.exit_codes import DIVERGED, DONE, FAILED, INTERRUPTED, WRONG_INPUT
from distsae.progress import speak
from distsae.standard_streams import OutputLost, guard_standard_streams, show

__all__ = ["COMMANDS", "main"]

_SECONDS_FOR_THE_FIRST = 30.0
"""Time that the other processes of a machine leave to the first one to report an error of all ranks."""

COMMANDS = (
    *("check", "plan", "demo", "produce", "store", "train", "stream", "supervise", "checkpoint"),
    *("evaluate", "features", "explain", "export", "import", "study", "report"),
)

_MACHINE_ERRORS = {
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ETIMEDOUT,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EMFILE,
    errno.ENFILE,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.ENODEV,
    errno.EXDEV,
    errno.EFBIG,
}
"""Errors that are not bugs: a missing file, no right to write, a full disk, a lost connection, a name too long."""

_ADVICE = {
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "the machine has too many open files; wait, or end other programs",
    **dict.fromkeys(
        (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EXDEV),
        "the file system lacks this operation; use a folder on another one",
    ),
}
"""What to do about errors whose own text does not say so."""


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        show(_overview())
        return DONE if argv else WRONG_INPUT
    if argv[0] == "--version":
        from distsae import __version__

        show(f"distsae {__version__}")
        return DONE
    name, *rest = argv
    if name not in COMMANDS:
        raise WrongInput(f"unknown command `{name}`{nearest(name, COMMANDS)}; known: {', '.join(COMMANDS)}")
    result = importlib.import_module(f"distsae.cli.{name}").run(rest)
    assert isinstance(result, int)
    return result


def main(
    argv: Sequence[str] | None = None,
    *,
    run: Callable[[list[str]], int] = _run,
    wait: Callable[[float], None] = time.sleep,
    leave: Callable[[int], object] = os._exit,
) -> int:
    """Runs one command and returns its exit code, one of `distsae.exit_codes`.

    A command that fails inside a process group ends this process at once: what Python does while it shuts down might
    wait for other ranks, which wait for this one.

    Args:
        argv: name of the command and its arguments; by default those of this process.
        run: function that runs the command that `argv` names; its errors become exit codes.
        wait: function that waits for a number of seconds.
        leave: function that ends this process with an exit code.
    """
    guard_standard_streams()
    try:
        code = _exit_code(list(sys.argv[1:] if argv is None else argv), run, wait)
    except BaseException:  # a bug
        if not _in_process_group():
            raise
        speak(traceback.format_exc().rstrip())
        code = FAILED
    if code != DONE and _in_process_group():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # it was closed, or its reader has gone
                stream.flush()
        leave(code)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # Threads of a process group release the tensors of the last collective with a delay. While Python shuts down
        # that would abort the process. The groups are left in reference cycles, so a collection ends them now.
        gc.collect()
    return code


def _in_process_group() -> bool:
    """Returns whether a process group is open; torch is not loaded to find out."""
    module = sys.modules.get("torch.distributed")
    return module is not None and bool(module.is_available() and module.is_initialized())


def _exit_code(argv: list[str], run: Callable[[list[str]], int], wait: Callable[[float], None]) -> int:
    try:
        check_environment()
    except WrongInput as error:
        _print_error(str(error), wait, on_every_rank=True)
        return WRONG_INPUT
    try:
        return run(argv)
    except DistsaeError as error:
        _print_error(str(error), wait, on_every_rank=not error.of_all_ranks)
        if isinstance(error, WrongInput):
            return WRONG_INPUT
        return DIVERGED if isinstance(error, Diverged) else FAILED
    except OutputLost as lost:
        if lost.reader_has_gone:
            return 128 + signal.SIGPIPE  # as any program that is piped into `head`
        _print_error(str(lost), wait, on_every_rank=True)
        return FAILED
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        text = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
        advice = f"; {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
        _print_error(text + advice, wait, on_every_rank=True)
        return FAILED
    except ModuleNotFoundError as missing:
        if (line := missing_package(missing)) is None:
            raise
        _print_error(line, wait, on_every_rank=False)
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as request:  # argparse's --help
        return request.code if isinstance(request.code, int) else DONE


def _print_error(message: str, wait: Callable[[float], None], *, on_every_rank: bool) -> None:
    # An error of all ranks is reported once on each machine, since another machine may see other files. The first
    # process of a machine may meet it later than the others, and a launcher ends all processes as soon as one has
    # ended. So the others wait to be ended. One that is still there after the wait reports the error as well: it may be
    # the only process that met it.
    if not on_every_rank and os.environ.get("LOCAL_RANK", "0") != "0":
        wait(_SECONDS_FOR_THE_FIRST)
    origin = "" if os.environ.get("RANK", "0") == "0" else f" (rank {os.environ['RANK']} on {platform.node()})"
    speak(f"distsae: error{origin}: {' '.join(message.split())}")


def _overview() -> str:
    lines = ["usage: distsae COMMAND [--key value ...]", "", "commands:"]
    for name in COMMANDS:
        lines.append(f"  {name:<10} {importlib.import_module(f'distsae.cli.{name}').HELP}")
    lines += ["", "`distsae COMMAND --help` lists the keys of a command, with examples."]
    return "\n".join(lines)
