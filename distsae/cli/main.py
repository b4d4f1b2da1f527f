"""`distsae COMMAND ...`: finds the command, runs it, turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence

from distsae.errors import DistsaeError, Diverged, WrongInput, nearest
from distsae.exit_codes import DIVERGED, DONE, FAILED, INTERRUPTED, WRONG_INPUT

__all__ = ["COMMANDS", "main"]

_PATIENCE = 30.0
"""Seconds that the other processes of a machine leave to the first one to say what all of them have found."""

COMMANDS = ("demo", "produce", "store", "train", "supervise", "checkpoint", "evaluate", "report")

_OF_THE_MACHINE = {
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
}
"""Errors that are no fault of the program: a file that is not there, a folder that may not be written, a full disk."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code, one of `distsae.exit_codes`."""
    try:
        return _exit_code(argv)
    finally:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # The threads of process groups drop the tensors of the last collective when they get to it. While Python
            # shuts down that would abort the process, so the groups, which now hang in reference cycles, end before.
            gc.collect()


def _exit_code(argv: Sequence[str] | None) -> int:
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except DistsaeError as error:
        _complain(str(error), on_every_rank=not error.of_all_ranks)
        return WRONG_INPUT if isinstance(error, WrongInput) else DIVERGED if isinstance(error, Diverged) else FAILED
    except BrokenPipeError:  # whoever read our lines, `head` for one, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        _complain(f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror), on_every_rank=True)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as request:  # argparse's --help
        return request.code if isinstance(request.code, int) else DONE


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return DONE if argv else WRONG_INPUT
    if argv[0] == "--version":
        from distsae import __version__

        print(f"distsae {__version__}")
        return DONE
    name, *rest = argv
    if name not in COMMANDS:
        raise WrongInput(f"unknown command `{name}`{nearest(name, COMMANDS)}; known: {', '.join(COMMANDS)}")
    result = importlib.import_module(f"distsae.cli.{name}").run(rest)
    assert isinstance(result, int)
    return result


def _complain(message: str, *, on_every_rank: bool) -> None:
    # What all ranks find one of each machine says: another machine may see other files. It may come to it later than
    # the rest, and a launcher ends all processes as soon as one has ended: so the rest wait to be ended. Those that
    # nobody ends speak too, for they may be the only ones that found anything.
    if not on_every_rank and os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(_PATIENCE)
    here = "" if os.environ.get("RANK", "0") == "0" else f" (rank {os.environ['RANK']} on {platform.node()})"
    print(f"distsae: error{here}: {' '.join(message.split())}", file=sys.stderr)


def _overview() -> str:
    lines = ["usage: distsae COMMAND [--key value ...]", "", "commands:"]
    for name in COMMANDS:
        lines.append(f"  {name:<10} {importlib.import_module(f'distsae.cli.{name}').HELP}")
    lines += ["", "`distsae COMMAND --help` lists a command's keys, with examples."]
    return "\n".join(lines)
