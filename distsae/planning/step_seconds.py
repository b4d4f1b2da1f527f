"""The seconds of a step that is planned, from those that `distsae check` measured on the machine.

The check measures steps of Mutual Choice on one process at a few widths. Each of their parts grows with one kind of
work, so a planned step takes the measured seconds of the nearest width times the ratio of the works. Exchanges follow
from the bytes of a step and the measured rate of a sum. Reading and copying the next batch go on meanwhile, and count
only where they take longer than the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from distsae.errors import WrongInput
from distsae.planning.measured_rates import MeasuredRates
from distsae.planning.step_shape import StepShape, bytes_received, work
from distsae.training import TrainConfig

__all__ = ["StepSeconds", "not_measured", "shape_of", "step_seconds"]


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of a step on a rank, by part.

    Args:
        parts: parts that follow one another, by name.
        meanwhile: what is done meanwhile for the next step, by name.
        tokens: tokens of the global batch.
        measured_at: width of the measured step that the parts are scaled from.
    """

    parts: dict[str, float]
    meanwhile: dict[str, float]
    tokens: int
    measured_at: int

    @staticmethod
    def joined(members: Sequence[StepSeconds]) -> StepSeconds:
        """Returns the seconds of the members of a sweep, which step one after another on each batch."""
        first = members[0]
        parts = {name: sum(member.parts[name] for member in members) for name in first.parts}
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
        "accumulation": (config.accumulation, 1),
        "finetune_fc_from": (config.finetune_fc_from, None),
    }
    return [f"{name} {value}" for name, (value, measured) in settings.items() if value != measured]


def shape_of(config: TrainConfig, d_in: int) -> StepShape:
    """Returns the sizes of a step of a run, with the auxiliary loss in use."""
    aux = config.sae.k * config.auxiliary.k_per_k if config.aux != "none" else 0.0
    mesh = config.mesh
    return StepShape(
        d_in=d_in,
        d_sae=config.sae.d_sae,
        tokens=config.batch_tokens,
        k=config.sae.k,
        data=mesh.data,
        feature=mesh.feature,
        k_aux=aux,
    )


def step_seconds(shape: StepShape, storage_bytes: int, rates: MeasuredRates, *, gpu: bool) -> StepSeconds:
    """Returns the seconds that a step is expected to take.

    Args:
        shape: sizes of the step.
        storage_bytes: bytes of a number in the store.
        rates: what was measured.
        gpu: whether the step runs on a GPU.

    Raises:
        WrongInput: the check measured another kind of device, or no exchange where there is one.
    """
    sizes = rates.sizes
    kind = "cuda" if gpu else "cpu"
    if sizes.device != kind:
        raise WrongInput(
            f"`check` (={sizes.device}) must have measured the device that is planned for, {kind}; got the check of a "
            f"{sizes.device}; check there, or use `device` {sizes.device}"
        )
    nearest = min(rates.steps, key=lambda step: abs(math.log(step.d_sae / shape.own_features)))
    measured = StepShape(d_in=sizes.d_in, d_sae=nearest.d_sae, tokens=sizes.batch_tokens, k=sizes.k)
    here, there = work(shape), work(measured)
    matched = (here["matched"] + here["summed"]) / (there["matched"] + there["summed"])
    parts = {
        "selection": nearest.selection * here["product"] / there["product"],
        "matched rows": nearest.rows * matched,
        "update": nearest.update * here["weights"] / there["weights"],
    }
    if shape.ranks > 1:
        if rates.exchange_bytes is None:
            raise WrongInput(
                f"`check` must have measured an exchange for a mesh of {shape.data} x {shape.feature} processes; got "
                "none; use `distsae check --processes 2`"
            )
        parts["exchange"] = sum(bytes_received(shape).values()) / rates.exchange_bytes
    stored = shape.own_tokens * shape.d_in * storage_bytes
    meanwhile = {}
    if rates.read_bytes is not None:
        meanwhile["reading"] = stored / rates.read_bytes
    if gpu and rates.upload_bytes is not None:
        meanwhile["copy to the GPU"] = stored / rates.upload_bytes
    return StepSeconds(parts, meanwhile, shape.tokens, nearest.d_sae)
