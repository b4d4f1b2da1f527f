"""Captures the activations at a hook, or replaces them while the model runs.

A hook names one tensor of the forward pass, `[batch, length, d]`. It is `blocks.N.KIND`, or the path of any module,
which means the output of that module. `capture` runs the model only as far as the hooks require. `splice` puts other
activations in place of the model's and lets the forward pass continue, so that the loss of a reconstruction can be
measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distsae.errors import WrongInput, nearest
from distsae.hooks.hook_points import HookPoint, hook_points

__all__ = ["activations_at", "capture", "hook_names", "observed", "resolve_hook", "splice"]


def hook_names(model: nn.Module) -> list[str]:
    """Returns the names of the `blocks.N.KIND` hooks of `model`; the path of any module is a hook as well."""
    return list(hook_points(model))


def resolve_hook(model: nn.Module, hook: str) -> HookPoint:
    """Returns the tensor of `model` that the name `hook` means.

    Raises:
        WrongInput: the model has neither such a hook nor such a module; the message lists the hooks that exist.
    """
    points = hook_points(model)
    if hook in points:
        return points[hook]
    modules = dict(model.named_modules())
    if hook and hook in modules:
        return HookPoint(name=hook, module=hook, side="output")
    raise WrongInput(
        f"`hook` (={hook}) must exist in the model; use {_choices(points)}{nearest(hook, [*points, *modules])}"
    )


@torch.inference_mode()
def capture(model: nn.Module, hooks: Sequence[str | HookPoint], input_ids: Tensor) -> dict[str, Tensor]:
    """Runs `model` until every hook has been reached once, and returns the activations there.

    Args:
        model: a transformers model.
        hooks: names of hooks, or results of `resolve_hook`, which save resolving the names for every batch.
        input_ids: int64 `[batch, length]`, without padding.

    Returns:
        Activations `[batch, length, d]` by hook name, in the model's dtype and on its device.

    Raises:
        WrongInput: a hook does not exist, is never reached, or is not a tensor `[batch, length, d]`.
    """
    points = [hook if isinstance(hook, HookPoint) else resolve_hook(model, hook) for hook in hooks]
    wanted = {point.name for point in points}
    seen: dict[str, Tensor] = {}

    def keep(point: HookPoint, value: object) -> None:
        if point.name not in seen:
            tensor = activations_at(point, value, input_ids)
            # After any hook but the last the forward pass continues, and may write into the tensor.
            last = len(seen) + 1 == len(wanted)
            seen[point.name] = tensor if last else tensor.clone()
        if len(seen) == len(wanted):
            raise _AllSeen

    with contextlib.ExitStack() as stack:
        for point in points:
            stack.enter_context(observed(model, point, keep))
        with contextlib.suppress(_AllSeen):
            model(input_ids=input_ids, use_cache=False)
    for point in points:
        if point.name not in seen:
            raise WrongInput(
                f"`hook` (={point.name}) must be reached by a forward pass; got a module that never runs; use another"
            )
    return seen


@contextlib.contextmanager
def splice(model: nn.Module, hook: str | HookPoint, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within this context, `model` continues every forward pass with `replace(activations)` at `hook`.

    Args:
        model: a transformers model.
        hook: name of the hook, or the result of `resolve_hook`, which saves resolving the name for every pass.
        replace: function from `[batch, length, d]` to a tensor of the same shape, which is cast to the dtype of the
            activations.

    Raises:
        WrongInput: the hook does not exist.
    """
    point = hook if isinstance(hook, HookPoint) else resolve_hook(model, hook)

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


@contextlib.contextmanager
def observed(model: nn.Module, point: HookPoint, keep: Callable[[HookPoint, object], None]) -> Iterator[None]:
    """Within this context, every forward pass calls `keep` with what is at `point`, each time that its module runs."""
    module = model.get_submodule(point.module)
    if point.side == "input":
        handle = module.register_forward_pre_hook(
            lambda _, args, kwargs: keep(point, next(iter((*args, *kwargs.values())), None)), with_kwargs=True
        )
    else:
        handle = module.register_forward_hook(
            lambda _, __, output: keep(point, output[0] if isinstance(output, tuple) and output else output)
        )
    try:
        yield
    finally:
        handle.remove()


def activations_at(point: HookPoint, value: object, input_ids: Tensor) -> Tensor:
    """Returns what a forward pass over `input_ids` gave at `point`, which must be activations of each token.

    Raises:
        WrongInput: it is no tensor of floating-point numbers `[batch, length, d]`.
    """
    got = f"a {type(value).__name__}"
    if isinstance(value, Tensor):
        if value.ndim == 3 and value.shape[:2] == input_ids.shape and value.is_floating_point():
            return value
        got = f"the shape {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    raise WrongInput(
        f"`hook` (={point.name}) must be a tensor [batch, length, d] of floating-point numbers; got {got} for "
        f"{list(input_ids.shape)} tokens; use another"
    )


class _AllSeen(Exception):
    """Ends a forward pass that has reached every hook."""


def _choices(points: dict[str, HookPoint]) -> str:
    """Returns what may be used as a hook; each kind in blocks is one entry, such as `blocks.0..11.resid_post`."""
    indices: dict[str, list[int]] = {}
    for name in points:
        _, index, kind = name.split(".")
        indices.setdefault(kind, []).append(int(index))
    ranges = [f"blocks.{min(found)}..{max(found)}.{kind}" for kind, found in indices.items()]
    return f"{', '.join(ranges)} or the path of a module" if ranges else "the path of a module"
