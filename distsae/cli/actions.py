"""Commands of several actions, such as `distsae store info ...` and `distsae checkpoint verify ...`.

A command lists its actions as `Action`s; `act` chooses the one that is asked for, parses its arguments and runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from distsae.errors import WrongInput, nearest
from distsae.standard_streams import show

__all__ = ["Action", "act"]

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class Action(Generic[Config]):
    """One action of a command.

    Args:
        config_class: frozen dataclass that the arguments are parsed into.
        run: function that does the work and returns the exit code.
        help: what the action does, as its `--help` shows it.
        positionals: fields of `config_class` that are given without their names.
    """

    config_class: type[Config]
    run: Callable[[Config], int]
    help: str
    positionals: tuple[str, ...]


def act(
    command: str,
    subject: str,
    actions: Mapping[str, Action[Any]],
    argv: list[str],
    *,
    help: str,
    examples: str,
) -> int:
    """Runs the action that `argv` begins with, or lists the actions, and returns the exit code.

    Args:
        command: name of the command.
        subject: what the actions work on, as the usage line names it.
        actions: actions of the command by name.
        argv: words after the command.
        help: what the command is for.
        examples: command lines to show, for every action.

    Raises:
        WrongInput: there is no such action, or its arguments are wrong.
        SystemExit: after an action's `--help`, with code 0.
    """
    if not argv or argv[0] in ("-h", "--help"):
        names = "|".join(actions)
        show(f"usage: distsae {command} {names} {subject} ...\n\n{help}\n\nexamples:\n{examples.strip(chr(10))}")
        return 0 if argv else 2
    name, *arguments = argv
    if name not in actions:
        raise WrongInput(
            f"`{command}` (={name}) must be followed by one of {', '.join(actions)}{nearest(name, actions)}"
        )
    from distsae.cli.parsing import parse  # here, since the overview of all commands imports this module too

    action = actions[name]
    config = parse(
        action.config_class,
        arguments,
        prog=f"distsae {command} {name}",
        examples=examples,
        help=action.help,
        positionals=action.positionals,
    )
    return action.run(config)
