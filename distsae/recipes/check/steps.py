"""The time of an optimizer step by part, at the widths that fit, against the least that the device's rates allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from distsae.allocation import Matches, MutualSelector, Placement, Scores, Selector
from distsae.kernels import kernels_for, prefilter_wanted
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.planning import Facts, largest_d_sae
from distsae.planning.machine import memory_here
from distsae.recipes.check.config import CheckConfig
from distsae.recipes.check.finding import Finding
from distsae.recipes.check.rates import Rates
from distsae.recipes.check.stopwatch import now
from distsae.training import OptimizerConfig, PlainEngine, Selectors, SizeConfig, TrainConfig, forward_backward

__all__ = ["WIDTHS", "StepTime", "step_floor", "step_time", "steps_found"]

WIDTHS = (1 << 14, 1 << 17, 1 << 20)
_WARM_UP = 2
_STEPS = 3

_UPDATE_BYTES = 25
"""Bytes of a weight that an update must read or write: the weight and two moments, in and out, and for half of the
weights, those of the encoder, a bf16 copy."""

_SLOWEST = 10.0
"""Times of the floor that a step is taken to need before one was measured."""


@dataclass(frozen=True)
class StepTime:
    """Median seconds of a step and of its parts.

    Args:
        selection: the product and the selection of the matches.
        rows: reconstruction, loss, and what each match adds to the gradients.
        update: gradients of the rows, Adam, decoder rows of unit norm.
    """

    selection: float
    rows: float
    update: float

    @property
    def whole(self) -> float:
        """Seconds of the step."""
        return self.selection + self.rows + self.update


def steps_found(config: CheckConfig, device: torch.device, rates: Rates, seconds_left: float) -> Iterator[Finding]:
    """Yields the time of a step of Mutual Choice for each width, or why it was not measured.

    Args:
        config: settings of the check.
        device: device of the step.
        rates: rates of the device.
        seconds_left: seconds that all widths may take.
    """
    most, times = _largest(config, device), _SLOWEST
    for d_sae in WIDTHS:
        name = f"step, d_sae {d_sae:,}"
        floor = step_floor(d_sae, config, rates)
        expected = (_WARM_UP + _STEPS) * times * floor
        if d_sae > most:
            yield Finding(name, "skipped", f"the memory holds {most:,} features")
        elif expected > seconds_left:
            yield Finding(name, "skipped", f"it may take {expected:,.0f} s, and {max(seconds_left, 0):,.0f} s are left")
        else:
            begun = now(device)
            found = step_time(d_sae, config, device)
            seconds_left -= now(device) - begun
            times = 2 * found.whole / floor
            yield _finding(name, d_sae, found, floor, config.batch_tokens)


def step_floor(d_sae: int, config: CheckConfig, rates: Rates) -> float:
    """Returns the seconds that a step takes at least: one bf16 product, and one pass of Adam over the weights."""
    product = 2.0 * d_sae * config.batch_tokens * config.d_in / rates.product
    return product + _UPDATE_BYTES * 2.0 * d_sae * config.d_in / rates.copy


def step_time(d_sae: int, config: CheckConfig, device: torch.device) -> StepTime:
    """Trains a few steps of Mutual Choice on random activations, and returns the time of a step."""
    mesh = build_mesh(MeshConfig(), 1, device.type)
    mean = torch.zeros(config.d_in)
    kernels, prefilter = kernels_for("auto", device), prefilter_wanted("auto", device)
    shard = FeatureShard(config.d_in, d_sae, range(d_sae), mean, 0, kernels=kernels, prefilter=prefilter).to(device)
    engine = PlainEngine(shard, mesh, OptimizerConfig())
    rate = OptimizerConfig().peak_rate(d_sae, 1)
    timed = _Timed(MutualSelector(config.k), device)
    generator = torch.Generator(device).manual_seed(0)
    found: list[StepTime] = []
    for _ in range(_WARM_UP + _STEPS):
        x = torch.randn(config.batch_tokens, config.d_in, generator=generator, device=device)
        begun = now(device)
        outcome = forward_backward(shard, x, mesh, Selectors(timed), shard.b_dec.detach() * 0, float(config.d_in), 0.0)
        middle = now(device)
        engine.update(outcome.gradients, rate)
        selection = timed.take()
        found.append(StepTime(selection, middle - begun - selection, now(device) - middle))
    kept = found[_WARM_UP:]
    return StepTime(*(median(getattr(step, part) for step in kept) for part in ("selection", "rows", "update")))


def _largest(config: CheckConfig, device: torch.device) -> int:
    """Returns the largest number of features whose training fits into the memory that is free."""
    run = TrainConfig(store="", out="", batch_tokens=config.batch_tokens, sae=SizeConfig(k=config.k))
    facts = Facts(
        d_in=config.d_in,
        storage_bytes=2,
        heldout_rows=0,
        reader_bytes=0,
        process_bytes=0,
        gpu=device.type == "cuda",
        prefilter=prefilter_wanted("auto", device),
    )
    return largest_d_sae([run], facts, memory_here(1, gpu=facts.gpu))


def _finding(name: str, d_sae: int, found: StepTime, floor: float, tokens: int) -> Finding:
    parts = {part: getattr(found, part) for part in ("selection", "rows", "update")}
    shown = ", ".join(f"{part} {1e3 * seconds:,.3g}" for part, seconds in parts.items())
    text = (
        f"{1e3 * found.whole:,.3g} ms ({shown}), {found.whole / floor:.1f} times the floor of {1e3 * floor:,.3g} ms; "
        f"{tokens / found.whole:,.0f} tokens/s"
    )
    figures = {"d_sae": d_sae, "step_s": found.whole, "floor_s": floor}
    figures |= {f"{part}_s": seconds for part, seconds in parts.items()}
    return Finding(name, "ok", text, figures)


class _Timed:
    """A selector that measures the time from the start of its pass to its matches.

    Args:
        selector: selector that selects.
        device: device of the scores.
    """

    def __init__(self, selector: Selector, device: torch.device) -> None:
        self._selector = selector
        self._device = device
        self._begun = 0.0
        self._seconds = 0.0

    def take(self) -> float:
        """Returns the seconds since the last call, and begins anew."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def start(self, placement: Placement, tokens: int) -> None:
        self._begun = now(self._device)
        self._selector.start(placement, tokens)

    def offer(self, first_feature: int, scores: Scores) -> None:
        self._selector.offer(first_feature, scores)

    def tally(self) -> Tensor | None:
        return self._selector.tally()

    def resolve(self, told: Tensor) -> Matches | None:
        found = self._selector.resolve(told)
        self._seconds += now(self._device) - self._begun
        return found
