"""Runs a model again on the same tokens without its first blocks, which would only compute what they gave before.

Forward passes that differ from some block on share everything below it. The model itself is called each time, so that
it makes embeddings, masks and positions as ever, but its first blocks do not run: each of them returns the hidden
states that the last of them gave in an earlier pass. In some models upper blocks read more of the lower ones than the
hidden states, so the caller has to check that the model still gives the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from distsae.hooks.hook_points import HookPoint, blocks_path

__all__ = ["LowerBlocks", "block_count", "blocks_below"]


def block_count(model: nn.Module) -> int:
    """Returns the number of blocks of `model`; 0 if it has no list of blocks."""
    return len(_blocks(model))


def blocks_below(model: nn.Module, point: HookPoint) -> int:
    """Returns how many first blocks give the same, whatever the activations at a hook are.

    They are the blocks before the one that the hook is in, and that block too if the hook is its output. It is 0 for a
    hook outside the list of blocks.
    """
    path = blocks_path(model)
    if path is None or not point.module.startswith(f"{path}."):
        return 0
    index, _, inside = point.module.removeprefix(f"{path}.").partition(".")
    return int(index) + (1 if point.side == "output" and not inside else 0)


class LowerBlocks:
    """The first `count` blocks of a model.

    Args:
        model: a transformers model with at least `count` blocks.
        count: number of blocks, at least 1.
    """

    def __init__(self, model: nn.Module, count: int) -> None:
        self._blocks = _blocks(model)[:count]
        assert len(self._blocks) == count >= 1, (len(self._blocks), count)
        self._forms: dict[nn.Module, _Form] = {}

    @contextlib.contextmanager
    def observed(self) -> Iterator[list[Tensor]]:
        """Within this context, every forward pass appends a copy of the hidden states after the last of the blocks.

        It yields the list. Nothing is appended where a block returns something else than hidden states, alone or first
        in a tuple.
        """
        seen: list[Tensor] = []

        def observe(block: nn.Module, _: object, output: object) -> None:
            hidden = output[0] if type(output) is tuple and output else output
            if not isinstance(hidden, Tensor):
                return
            self._forms[block] = _first_of(len(output)) if type(output) is tuple else _returned_alone
            if block is self._blocks[-1] and len(self._forms) == len(self._blocks):
                seen.append(hidden.clone())  # later blocks may change the tensor in place

        with contextlib.ExitStack() as stack:
            for block in self._blocks:
                stack.callback(block.register_forward_hook(observe).remove)
            yield seen

    @contextlib.contextmanager
    def skipped(self, hidden: Tensor) -> Iterator[None]:
        """Within this context, the blocks do not run; each returns `hidden` in the form that it was seen to return.

        Hooks on the last block run all the same, on these hidden states.

        Args:
            hidden: hidden states that `observed` appended for the same tokens.
        """
        with contextlib.ExitStack() as stack:
            for block in self._blocks:
                stack.enter_context(_forward_replaced(block, _returning(self._forms[block], hidden)))
            yield


_Form = Callable[[Tensor], object]
"""How a block returns hidden states."""


def _returned_alone(hidden: Tensor) -> object:
    return hidden


def _first_of(length: int) -> _Form:
    # What else a block returns, such as attention weights, is read by nobody unless it was asked for.
    return lambda hidden: (hidden, *[None] * (length - 1))


def _returning(form: _Form, hidden: Tensor) -> Callable[..., object]:
    def forward(*_: object, **__: object) -> object:
        return form(hidden.clone())  # the next block may change the tensor in place

    return forward


@contextlib.contextmanager
def _forward_replaced(block: nn.Module, forward: Callable[..., object]) -> Iterator[None]:
    # The module stays where it is, with its attributes, which the model may read, and its hooks.
    attributes: dict[str, Any] = vars(block)
    had_its_own, before = "forward" in attributes, attributes.get("forward")
    attributes["forward"] = forward
    try:
        yield
    finally:
        if had_its_own:
            attributes["forward"] = before
        else:
            del attributes["forward"]


def _blocks(model: nn.Module) -> list[nn.Module]:
    path = blocks_path(model)
    return [] if path is None else list(model.get_submodule(path).children())
