"""Commands of several actions: `distsae store info ...`, `distsae checkpoint verify ...`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from distsae.errors import WrongInput, nearest

__all__ = ["act"]


def act(
    command: str,
    subject: str,
    actions: Mapping[str, Callable[[list[str]], int]],
    argv: list[str],
    *,
    help: str,
    examples: str,
) -> int:
    """Runs the action that `argv` begins with, or shows what there is, and returns the exit code.

    Args:
        command: its name.
        subject: what the actions are about, as the usage line names it.
        actions: by name; each gets the other words.
        argv: words after the command.
        help: what the command is for.
        examples: how it is used.

    Raises:
        WrongInput: there is no such action.
    """
    if not argv or argv[0] in ("-h", "--help"):
        names = "|".join(actions)
        print(f"usage: distsae {command} {names} {subject} ...\n\n{help}\n\nexamples:\n{examples.strip(chr(10))}")
        return 0 if argv else 2
    if argv[0] not in actions:
        raise WrongInput(
            f"`{command}` (={argv[0]}) must be followed by one of {', '.join(actions)}{nearest(argv[0], actions)}"
        )
    return actions[argv[0]](argv[1:])
