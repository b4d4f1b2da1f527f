"""`distsae COMMAND ...`: finds the command, runs it, turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import platform
import signal
import sys
from collections.abc import Sequence

from distsae.errors import DistsaeError, WrongInput, nearest

__all__ = ["COMMANDS", "main"]

COMMANDS = ("demo", "produce", "store", "train", "evaluate", "report")

_OK, _FAILED, _WRONG_INPUT = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 when the work is done, 2 for wrong input, 1 otherwise."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return _OK if argv else _WRONG_INPUT
    if argv[0] == "--version":
        from distsae import __version__

        print(f"distsae {__version__}")
        return _OK
    name, *rest = argv
    if name not in COMMANDS:
        return _refuse(f"unknown command `{name}`{nearest(name, COMMANDS)}; known: {', '.join(COMMANDS)}", _WRONG_INPUT)
    try:
        result = importlib.import_module(f"distsae.cli.{name}").run(rest)
        assert isinstance(result, int)
        return result
    except WrongInput as error:
        return _refuse(str(error), _WRONG_INPUT)
    except DistsaeError as error:
        return _refuse(str(error), _FAILED)
    except (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError) as error:
        return _refuse(f"{error.strerror}: {error.filename}", _FAILED)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except SystemExit as request:  # argparse's --help
        return request.code if isinstance(request.code, int) else _OK


def _refuse(message: str, code: int) -> int:
    # All ranks of a machine find the same fault, and one of them says so; another machine may see other files.
    if os.environ.get("LOCAL_RANK", "0") == "0" or code == _FAILED:
        here = "" if os.environ.get("RANK", "0") == "0" else f" (rank {os.environ['RANK']} on {platform.node()})"
        print(f"distsae: error{here}: {' '.join(message.split())}", file=sys.stderr)
    return code


def _overview() -> str:
    lines = ["usage: distsae COMMAND [--key value ...]", "", "commands:"]
    for name in COMMANDS:
        lines.append(f"  {name:<10} {importlib.import_module(f'distsae.cli.{name}').HELP}")
    lines += ["", "`distsae COMMAND --help` lists a command's keys, with examples."]
    return "\n".join(lines)
