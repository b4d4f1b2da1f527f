"""Errors of other people's code and files, in one line.

Loading a model runs code of other libraries, and sometimes code that came with the model, on files that nobody has
checked. Any exception may come out of it: a damaged file is a `KeyError` in one library and a bare `Exception` in
another. The line says what was asked of the model, and the exception stays its cause.
"""

from __future__ import annotations

import errno
import pickle
from types import TracebackType

import torch

from distsae.errors import CannotContinue, DistsaeError, WrongInput

__all__ = ["WrongModel", "one_line"]

_LONGEST = 300  # characters of a foreign message that are shown


class WrongModel:
    """Within this context, an exception of any kind becomes a `WrongInput` about the model.

    Exceptions of distsae pass, and so do requests to end the process. Too little memory is no fault of the model.

    Args:
        name: name or folder that the user gave.
        must: what the model must be or do, after "must".
        use: what the user can do about it.
    """

    def __init__(self, name: str, must: str, use: str) -> None:
        self._name = name
        self._must = must
        self._use = use

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, DistsaeError):
            return
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise CannotContinue(f"there is too little memory for the model {self._name}: {one_line(error)}") from error
        got, use = one_line(error), self._use
        if "trust_remote_code=True" in str(error):
            got = "one that needs code of its own, which must not run unasked"
            use = "read its code, then set --trust_remote_code, or use another model"
        elif isinstance(error, ImportError):
            use = "install what it names, or use another model"
        elif isinstance(error, pickle.UnpicklingError):
            got = "a pickle that is damaged, or holds more than tensors"
            use = "save the weights as safetensors"
        elif "(os error 19)" in str(error) or getattr(error, "errno", None) == errno.ENODEV:
            got = "a file system that cannot map files into memory"
            use = "copy the model to a folder on another one"
        raise WrongInput(f"`model` (={self._name}) must {self._must}; got {got}; {use}") from error


def one_line(error: BaseException) -> str:
    """Returns the kind of an exception and the start of its text, without line breaks and control characters."""
    printable = "".join(character if character.isprintable() else " " for character in str(error))
    text = " ".join(printable.split())
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{type(error).__name__}: {shown or 'no reason given'}"
