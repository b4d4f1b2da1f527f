"""The seconds of a step that is planned, from those that `distsae check` measured on the machine.

The check measures steps of Mutual Choice on one process at a few widths. Each of their parts is made of a few kinds of
work, whose rates follow from the widths; a planned step takes the measured seconds of the nearest width, times the
ratio of the works. Exchanges follow from the bytes and calls of a step and the links between its ranks. Reading and
copying the next batch go on meanwhile, and count only where they take longer than the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from distsae.errors import WrongInput
from distsae.planning.exchanges import exchanges
from distsae.planning.links import Links, exchange_seconds, one_machine
from distsae.planning.measured_rates import MeasuredRates, MeasuredStep
from distsae.planning.step_shape import StepShape, work
from distsae.training import TrainConfig

__all__ = ["EXCHANGE", "StepSeconds", "not_measured", "step_seconds", "with_exchanges"]

EXCHANGE = "exchange: "
"""What the names of parts begin with that are spent in collectives."""

_TERMS = {"selection": ("product", "matched"), "rows": ("matched",), "update": ("weights", "summed")}
"""The works that each measured part is made of, the largest first."""

_NAMES = {"selection": "selection", "rows": "matched rows", "update": "update"}


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of a step on a rank, by part.

    Args:
        parts: parts that follow one another, by name.
        meanwhile: what is done meanwhile for the next step, by name.
        tokens: tokens of the global batch.
        measured_at: width of the measured step that the parts are scaled from; None if none was measured.
    """

    parts: dict[str, float]
    meanwhile: dict[str, float]
    tokens: int
    measured_at: int | None = None

    @staticmethod
    def joined(members: Sequence[StepSeconds]) -> StepSeconds:
        """Returns the seconds of the members of a sweep, which step one after another on each batch."""
        first = members[0]
        names = dict.fromkeys(name for member in members for name in member.parts)
        parts = {name: sum(member.parts.get(name, 0.0) for member in members) for name in names}
        return replace(first, parts=parts)

    @property
    def whole(self) -> float:
        """Seconds from one step to the next."""
        return max(sum(self.parts.values()), *self.meanwhile.values(), 0.0)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of the global batch in a second."""
        return self.tokens / self.whole

    @property
    def bottleneck(self) -> str:
        """The part to begin with: what the step waits for, or else its longest part."""
        waited_for = [name for name, seconds in self.meanwhile.items() if seconds >= self.whole]
        return waited_for[0] if waited_for else max(self.parts, key=self.parts.__getitem__)


def not_measured(config: TrainConfig) -> list[str]:
    """Returns the settings of a run that a check does not measure, and that change the time of a step."""
    settings = {
        "allocation": (config.allocation, "mutual_choice"),
        "engine": (config.engine, "plain"),
        "optimizer.state": (config.optimizer.state, "fp32"),
        "optimizer.divide_moments": (config.optimizer.divide_moments and config.mesh.data > 1, False),
        "accumulation": (config.accumulation, 1),
        "finetune_fc_from": (config.finetune_fc_from, None),
    }
    return [f"{name} {value}" for name, (value, measured) in settings.items() if value != measured]


def step_seconds(
    shape: StepShape, storage_bytes: int, rates: MeasuredRates, *, gpu: bool, links: Links | None = None
) -> StepSeconds:
    """Returns the seconds that a step is expected to take.

    Args:
        shape: sizes of the step.
        storage_bytes: bytes of a number in the store.
        rates: what was measured.
        gpu: whether the step runs on a GPU.
        links: what connects the ranks; by default all of them are on the machine that was measured.

    Raises:
        WrongInput: the check measured another kind of device, or no exchange where there is one.
    """
    sizes = rates.sizes
    kind = "cuda" if gpu else "cpu"
    if sizes.device != kind:
        raise WrongInput(
            f"`check` (={sizes.device}) must have measured the device that is planned for, {kind}; got the check of a "
            f"{sizes.device}; check there, or plan for a {sizes.device}"
        )
    nearest = min(rates.steps, key=lambda step: abs(math.log(step.d_sae / shape.own_features)))
    here, there = work(shape), work(_shape_of(nearest, rates))
    parts = {}
    for part, terms in _fitted(rates).items():
        expected, fitted = (sum(rate * amounts[term] for term, rate in terms.items()) for amounts in (here, there))
        parts[_NAMES[part]] = getattr(nearest, part) * expected / fitted
    if shape.ranks > 1 and links is None:
        if rates.exchange_bytes is None:
            raise WrongInput(
                f"`check` must have measured an exchange for a mesh of {shape.data} x {shape.feature} processes; got "
                "none; use `distsae check --processes 2`"
            )
        links = one_machine(rates.exchange_bytes, rates.exchange_latency or 0.0, shape.ranks, rates.exchanging)
    stored = shape.own_tokens * shape.d_in * storage_bytes
    meanwhile = {}
    if rates.read_bytes is not None:
        meanwhile["reading"] = stored / rates.read_bytes
    if gpu and rates.upload_bytes is not None:
        meanwhile["copy to the GPU"] = stored / rates.upload_bytes
    return with_exchanges(StepSeconds(parts, meanwhile, shape.tokens, nearest.d_sae), shape, links)


def with_exchanges(computing: StepSeconds, shape: StepShape, links: Links | None) -> StepSeconds:
    """Returns the seconds of a step with those of its exchanges; None for `links` if it has only one rank."""
    parts = dict(computing.parts)
    if links is not None:
        for name, seconds in exchange_seconds(shape, exchanges(shape), links):
            parts[EXCHANGE + name] = parts.get(EXCHANGE + name, 0.0) + seconds
    return replace(computing, parts=parts)


def _shape_of(step: MeasuredStep, rates: MeasuredRates) -> StepShape:
    sizes = rates.sizes
    return StepShape(d_in=sizes.d_in, d_sae=step.d_sae, tokens=sizes.batch_tokens, k=sizes.k)


def _fitted(rates: MeasuredRates) -> dict[str, dict[str, float]]:
    """Returns, for each measured part, the seconds of a unit of each of its works, by least relative squares.

    One width cannot tell two works apart, nor can widths that would give one of them a negative rate: the part is then
    taken to be made of the first of them.
    """
    amounts = [work(_shape_of(step, rates)) for step in rates.steps]
    found = {}
    for part, terms in _TERMS.items():
        measured = np.array([getattr(step, part) for step in rates.steps])
        for names in (terms, terms[:1]):
            if len(names) > len(rates.steps):
                continue
            matrix = np.array([[amount[name] for name in names] for amount in amounts]) / measured[:, None]
            solved = np.linalg.lstsq(matrix, np.ones(len(measured)), rcond=None)[0]
            if solved.min() > 0:
                break
        found[part] = dict(zip(names, solved.tolist(), strict=True))
    return found
