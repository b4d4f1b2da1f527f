"""`distsae COMMAND ...`: finds the command, runs it, turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import platform
import signal
import sys
from collections.abc import Sequence

from distsae.errors import DistsaeError, Diverged, WrongInput, nearest
from distsae.exit_codes import DIVERGED, DONE, FAILED, INTERRUPTED, WRONG_INPUT

__all__ = ["COMMANDS", "main"]

COMMANDS = ("demo", "produce", "store", "train", "supervise", "checkpoint", "evaluate", "report")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code, one of `distsae.exit_codes`."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except WrongInput as error:
        return _refuse(str(error), WRONG_INPUT)
    except Diverged as error:
        return _refuse(str(error), DIVERGED)
    except DistsaeError as error:
        return _refuse(str(error), FAILED)
    except (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError) as error:
        return _refuse(f"{error.strerror}: {error.filename}", FAILED)
    except BrokenPipeError:  # whoever read our lines, `head` for one, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
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


def _refuse(message: str, code: int) -> int:
    # All ranks of a machine find the same fault, and one of them says so; another machine may see other files.
    if os.environ.get("LOCAL_RANK", "0") == "0" or code == FAILED:
        here = "" if os.environ.get("RANK", "0") == "0" else f" (rank {os.environ['RANK']} on {platform.node()})"
        print(f"distsae: error{here}: {' '.join(message.split())}", file=sys.stderr)
    return code


def _overview() -> str:
    lines = ["usage: distsae COMMAND [--key value ...]", "", "commands:"]
    for name in COMMANDS:
        lines.append(f"  {name:<10} {importlib.import_module(f'distsae.cli.{name}').HELP}")
    lines += ["", "`distsae COMMAND --help` lists a command's keys, with examples."]
    return "\n".join(lines)
