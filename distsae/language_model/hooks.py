"""Reading activations at a hook, and putting others in their place.

A hook is a name for one tensor of the forward pass, `[batch, length, d]`: `blocks.N.KIND`, or the path of any module,
which means that module's output. `capture` runs the model just far enough to see all hooks; `splice` lets the
model run on with a replacement, which is how a reconstruction is judged by the loss that it causes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distsae.errors import WrongInput, nearest
from distsae.language_model.hook_points import Place, block_places

__all__ = ["HookPoint", "capture", "hook_names", "hook_widths", "resolve_hook", "splice"]


@dataclass(frozen=True, kw_only=True)
class HookPoint:
    """One tensor of the forward pass.

    Args:
        name: the hook's name, as the user gave it.
        module: path of the module that it belongs to.
        side: `"input"` for the module's first argument, `"output"` for its (first) result.
    """

    name: str
    module: str
    side: str


def hook_names(model: nn.Module) -> list[str]:
    """Returns the `blocks.N.KIND` hooks that `model` has; paths of modules are hooks too."""
    return list(block_places(model))


def resolve_hook(model: nn.Module, hook: str) -> HookPoint:
    """Returns where `hook` is.

    Raises:
        WrongInput: the model has neither such a hook nor such a module; the hooks that exist are listed.
    """
    places = block_places(model)
    modules = dict(model.named_modules())
    if hook in places:
        place = places[hook]
    elif hook in modules and hook:
        place = Place(hook, "output")
    else:
        raise WrongInput(
            f"`hook` (={hook}) must exist in the model; it has {_summary(places)}, and the path of any module"
            f"{nearest(hook, [*places, *modules])}"
        )
    return HookPoint(name=hook, module=place.module, side=place.side)


@torch.inference_mode()
def capture(model: nn.Module, hooks: Sequence[str | HookPoint], input_ids: Tensor) -> dict[str, Tensor]:
    """Runs `model` until every hook has been seen once and returns the tensors.

    Args:
        model: a transformers model.
        hooks: names of hooks, or what `resolve_hook` gave for them, which saves finding them again at every batch.
        input_ids: int64 `[batch, length]`, without padding.

    Returns:
        For each hook its activations `[batch, length, d]`, in the model's dtype and on its device.

    Raises:
        WrongInput: a hook does not exist, is never reached, or is not a tensor `[batch, length, d]`.
    """
    points = [hook if isinstance(hook, HookPoint) else resolve_hook(model, hook) for hook in hooks]
    wanted = {point.name for point in points}
    seen: dict[str, Tensor] = {}

    def keep(point: HookPoint, value: Tensor) -> None:
        if point.name not in seen:
            # The forward goes on after all but the last hook and may then write into the tensor.
            last = len(seen) + 1 == len(wanted)
            seen[point.name] = value if last else value.clone()
        if len(seen) == len(wanted):
            raise _AllSeen

    with contextlib.ExitStack() as stack:
        for point in points:
            stack.enter_context(_watched(model, point, keep))
        with contextlib.suppress(_AllSeen):
            model(input_ids=input_ids, use_cache=False)
    for point in points:
        _check_shape(point, seen, input_ids)
    return seen


def hook_widths(model: nn.Module, hooks: Sequence[str]) -> dict[str, int]:
    """Returns `d` of each hook, from a forward pass over two tokens."""
    device = next(model.parameters()).device
    tensors = capture(model, hooks, torch.zeros(1, 2, dtype=torch.int64, device=device))
    return {hook: int(tensors[hook].shape[-1]) for hook in hooks}


@contextlib.contextmanager
def splice(model: nn.Module, hook: str, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within this context, `model` goes on with `replace(activations)` at `hook`.

    Args:
        model: a transformers model.
        hook: name of the hook.
        replace: takes `[batch, length, d]` and returns a tensor of the same shape; its result is cast to the dtype
            of the activations.

    Raises:
        WrongInput: the hook does not exist.
    """
    point = resolve_hook(model, hook)

    def replaced(value: Tensor) -> Tensor:
        result = replace(value)
        assert result.shape == value.shape, (result.shape, value.shape)
        return result.to(value.dtype)

    module = model.get_submodule(point.module)
    if point.side == "input":

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            if args:
                return (replaced(args[0]), *args[1:]), kwargs
            name = next(iter(kwargs))
            return args, {**kwargs, name: replaced(kwargs[name])}

        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:

        def after(_: nn.Module, __: object, output: object) -> object:
            if isinstance(output, tuple):
                return (replaced(output[0]), *output[1:])
            assert isinstance(output, Tensor), type(output)
            return replaced(output)

        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


class _AllSeen(Exception):
    """Ends a forward pass whose rest nobody needs."""


@contextlib.contextmanager
def _watched(model: nn.Module, point: HookPoint, keep: Callable[[HookPoint, Tensor], None]) -> Iterator[None]:
    module = model.get_submodule(point.module)
    if point.side == "input":
        handle = module.register_forward_pre_hook(
            lambda _, args, kwargs: keep(point, args[0] if args else next(iter(kwargs.values()))),
            with_kwargs=True,
        )
    else:
        handle = module.register_forward_hook(
            lambda _, __, output: keep(point, output[0] if isinstance(output, tuple) else output)
        )
    try:
        yield
    finally:
        handle.remove()


def _check_shape(point: HookPoint, seen: dict[str, Tensor], input_ids: Tensor) -> None:
    if point.name not in seen:
        raise WrongInput(f"`hook` (={point.name}) must be reached by a forward pass; got a module that never runs")
    shape = tuple(seen[point.name].shape)
    if len(shape) != 3 or shape[:2] != tuple(input_ids.shape):
        raise WrongInput(
            f"`hook` (={point.name}) must be a tensor [batch, length, d]; got the shape {list(shape)} for "
            f"{list(input_ids.shape)} tokens"
        )


def _summary(places: dict[str, Place]) -> str:
    if not places:
        return "no blocks that are known"
    kinds: dict[str, list[int]] = {}
    for name in places:
        _, number, kind = name.split(".")
        kinds.setdefault(kind, []).append(int(number))
    ranges = {kind: (min(numbers), max(numbers)) for kind, numbers in kinds.items()}
    return ", ".join(f"blocks.{first}..{last}.{kind}" for kind, (first, last) in ranges.items())
