"""One small forward pass that shows, before any long work, what a model gives at hooks.

It is over two contexts of three tokens, so that a tensor without an axis of contexts, or with its axes in another
order, cannot pass. It runs to its end, so that a module that runs twice is counted twice: capturing would take its
first activations, and splicing would replace both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import nn

from distsae.errors import WrongInput
from distsae.hooks.forward_pass import activations_at, observed, resolve_hook
from distsae.hooks.hook_points import HookPoint
from distsae.language_model.foreign_errors import WrongModel
from distsae.language_model.split_model import input_device

__all__ = ["hook_widths"]

_CONTEXTS = 2
_LENGTH = 3


@torch.inference_mode()
def hook_widths(model: nn.Module, hooks: Sequence[str]) -> dict[str, int]:
    """Returns the width of the activations at each hook.

    Args:
        model: a transformers model.
        hooks: names of hooks.

    Raises:
        WrongInput: a hook does not exist, its module does not run exactly once in a forward pass, or it gives something
            else than a tensor `[batch, length, d]`; or the model does not run.
    """
    points = [resolve_hook(model, hook) for hook in hooks]
    device = input_device(model)
    input_ids = torch.arange(_CONTEXTS * _LENGTH, device=device).view(_CONTEXTS, _LENGTH)
    seen: dict[str, list[int]] = {point.name: [] for point in points}

    def count(point: HookPoint, value: object) -> None:
        seen[point.name].append(int(activations_at(point, value, input_ids).shape[-1]))

    name = str(getattr(model, "name_or_path", type(model).__name__))
    with contextlib.ExitStack() as stack:
        for point in points:
            stack.enter_context(observed(model, point, count))
        with WrongModel(name, "run on a few tokens", "use another model"):
            model(input_ids=input_ids, use_cache=False)
    for hook, widths in seen.items():
        if len(widths) != 1:
            times = f"{len(widths)} times" if widths else "a module that never runs"
            raise WrongInput(f"`hook` (={hook}) must run once in a forward pass; got {times}; choose another hook")
    return {hook: widths[0] for hook, widths in seen.items()}
