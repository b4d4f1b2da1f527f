"""`distsae plan`: what a training on a cluster needs and how long it takes, before it is paid for.

Memory, work and exchanges are those of `train --dry_run`, for every mesh that the devices can form.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import torch

from distsae.batches import STREAMS, reader_bytes
from distsae.checkpoint import CheckpointConfig
from distsae.kernels import prefilter_wanted
from distsae.parallel import MeshConfig
from distsae.planning.cluster.checkpoint_cost import CheckpointCost, checkpoint_cost
from distsae.planning.cluster.computed_seconds import computed_seconds, meanwhile
from distsae.planning.cluster.config import PlanConfig
from distsae.planning.cluster.hardware import Hardware
from distsae.planning.cluster.inputs import PlanInputs, hardware_of, inputs_of, links_of
from distsae.planning.cluster.meshes import MeshPlan, best, possible_meshes
from distsae.planning.cluster.producers import producer_rate, producers_needed
from distsae.planning.cluster.store_size import StoreShape, advised
from distsae.planning.exchanges import exchanges
from distsae.planning.gpu import CUDA_LIBRARIES_BYTES
from distsae.planning.items import Facts
from distsae.planning.largest import Memory, largest_d_sae
from distsae.planning.links import Links
from distsae.planning.machine import process_bytes
from distsae.planning.measured_rates import MeasuredRates, read_rates
from distsae.planning.memory import memory_items
from distsae.planning.step_seconds import StepSeconds, not_measured, step_seconds
from distsae.planning.step_shape import shape_of
from distsae.training import OptimizerConfig, SizeConfig, TrainConfig

__all__ = ["ClusterPlan", "cluster_plan", "facts_on", "train_config"]

_PROCESS_BYTES = 500 << 20
"""What a process takes that has loaded the libraries of a run, on a system that does not tell: as measured on Linux."""


@dataclass(frozen=True, kw_only=True)
class ClusterPlan:
    """A plan.

    Args:
        config: what was asked for.
        inputs: what is known of the activations.
        hardware: the machines.
        rates: what a check measured; None if all times are computed.
        meshes: the possible meshes, the best first.
        largest: largest `d_sae` that fits on the best mesh, all else as given.
        steps: optimizer steps.
        checkpoint: cost of a checkpoint.
        store_advice: units and chunks that a quota allows, where those that are planned exceed it.
        producer: rows that a producer makes in a second; None if that is unknown.
        unmeasured: settings that change the time of a step, and that the check does not measure.
    """

    config: PlanConfig
    inputs: PlanInputs
    hardware: Hardware
    rates: MeasuredRates | None
    meshes: tuple[MeshPlan, ...]
    largest: int
    steps: int
    checkpoint: CheckpointCost
    store_advice: StoreShape | None
    producer: float | None
    unmeasured: tuple[str, ...]

    @property
    def chosen(self) -> MeshPlan:
        """The best mesh."""
        return self.meshes[0]

    @property
    def machines(self) -> int:
        """Machines of the run."""
        return -(-self.config.gpus // self.hardware.node_size)

    @property
    def days(self) -> float:
        """Days of the training steps."""
        return self.steps * self.chosen.step.whole / 86_400

    @property
    def gpu_hours(self) -> float:
        """Hours of all devices together."""
        return 24 * self.days * self.config.gpus

    @property
    def producers(self) -> int | None:
        """Producers that keep up with the training; None if that is unknown."""
        rate = self.chosen.step.tokens_per_second
        return None if self.producer is None else producers_needed(rate, self.producer)

    @property
    def over_quota(self) -> bool:
        """Whether the store has more files and folders than the quota allows."""
        return self.config.max_inodes is not None and self.inputs.size.inodes > self.config.max_inodes


def cluster_plan(config: PlanConfig) -> ClusterPlan:
    """Plans a run; nothing is started and nothing is written.

    Raises:
        WrongInput: there is no such store, model or check, or no such mesh.
    """
    meshes = possible_meshes(config)
    rates = None if config.check is None else read_rates(config.check)
    hardware = hardware_of(config, rates)
    inputs = inputs_of(config)
    links = links_of(hardware, rates)
    resident = _process_bytes(train_config(config, meshes[0]), hardware)
    plans = best(
        best(
            _on(train_config(config, mesh, divide), config, inputs, hardware, rates, links, resident)
            for divide in _ways_to_update(config, mesh)
        )[0]
        for mesh in meshes
    )
    chosen = plans[0]
    run = train_config(config, chosen.mesh, chosen.shape.divide_moments)
    steps = max(round(inputs.tokens * config.epochs / config.batch_tokens), 1)
    parameters = inputs.parameters
    producer = config.producer_tokens_per_second
    if producer is None and parameters is not None:
        producer = producer_rate(parameters, config.model_dtype, hardware, inputs.store.context_length)
    exceeded = config.max_inodes is not None and inputs.size.inodes > config.max_inodes
    return ClusterPlan(
        config=config,
        inputs=inputs,
        hardware=hardware,
        rates=rates,
        meshes=tuple(plans),
        largest=largest_d_sae([run], facts_on(run, inputs, hardware, resident), chosen.memory),
        steps=steps,
        checkpoint=checkpoint_cost(run, inputs.d_in, hardware, chosen.step.whole),
        store_advice=advised(inputs.store, config.max_inodes) if exceeded and config.max_inodes else None,
        producer=producer,
        unmeasured=() if rates is None else tuple(not_measured(run)),
    )


def _ways_to_update(config: PlanConfig, mesh: MeshConfig) -> list[bool]:
    """Returns whether data ranks may divide the update on a mesh, or may repeat it."""
    if config.engine == "deepspeed" or mesh.data == 1:
        return [False]
    return [False, True] if config.divide_moments is None else [config.divide_moments]


def train_config(config: PlanConfig, mesh: MeshConfig, divide_moments: bool = False) -> TrainConfig:
    """Returns the training that is planned, on a mesh, with an update that data ranks repeat or divide."""
    return TrainConfig(
        store=config.store or "",
        out="",
        batch_tokens=config.batch_tokens,
        sae=SizeConfig(d_sae=config.d_sae, k=config.k),
        allocation=config.allocation,
        aux=config.aux,
        mesh=mesh,
        engine=config.engine if mesh.data * mesh.feature > 1 else "plain",
        optimizer=OptimizerConfig(state=config.optimizer_state, divide_moments=divide_moments),
        checkpoint=CheckpointConfig(every=config.checkpoint_every),
    )


def facts_on(run: TrainConfig, inputs: PlanInputs, hardware: Hardware, resident: int) -> Facts:
    """Returns the facts that the memory of a run depends on.

    Args:
        run: the run.
        inputs: what is known of the activations.
        hardware: its devices.
        resident: bytes of a process that has loaded its libraries.
    """
    return Facts(
        d_in=inputs.d_in,
        storage_bytes=inputs.storage_bytes,
        heldout_rows=inputs.heldout_rows,
        reader_bytes=reader_bytes(
            streams=STREAMS // run.mesh.data,
            rows_per_stream=run.batch_tokens // STREAMS,
            d_in=inputs.d_in,
            storage_bytes=inputs.storage_bytes,
            steps_per_epoch=max(inputs.tokens // run.batch_tokens, 1),
            gpu=hardware.gpu,
        ),
        process_bytes=resident,
        gpu=hardware.gpu,
        prefilter=hardware.gpu or prefilter_wanted(run.prefilter, torch.device("cpu")),
        cuda_libraries_bytes=CUDA_LIBRARIES_BYTES if hardware.gpu and not torch.cuda.is_available() else 0,
    )


def _on(
    run: TrainConfig,
    config: PlanConfig,
    inputs: PlanInputs,
    hardware: Hardware,
    rates: MeasuredRates | None,
    links: Links,
    resident: int,
) -> MeshPlan:
    facts, shape = facts_on(run, inputs, hardware, resident), shape_of(run, inputs.d_in, gpu=hardware.gpu)
    processes = min(hardware.node_size, config.gpus)
    memory = Memory(hardware.host_bytes, processes, hardware.memory_bytes if hardware.gpu else None)
    if rates is None:
        step = computed_seconds(run, facts, hardware, links)
    else:
        ranks = shape.ranks > 1
        step = step_seconds(shape, inputs.storage_bytes, rates, gpu=hardware.gpu, links=links if ranks else None)
        step = _with_disk(step, config, meanwhile(shape, inputs.storage_bytes, hardware))
    items = memory_items([run], facts)
    return MeshPlan(run.mesh, shape, tuple(items), memory, step, tuple(exchanges(shape)))


def _with_disk(step: StepSeconds, config: PlanConfig, computed: dict[str, float]) -> StepSeconds:
    """Returns a measured step with the disk that the user names, which all ranks of a machine share."""
    if config.disk_gb_per_second is None:
        return step
    reading = max(step.meanwhile.get("reading", 0.0), computed["reading"])
    return replace(step, meanwhile=step.meanwhile | {"reading": reading})


def _process_bytes(run: TrainConfig, hardware: Hardware) -> int:
    if not sys.platform.startswith("linux"):
        return _PROCESS_BYTES
    on_gpu = hardware.gpu and torch.cuda.is_available()
    return process_bytes(run, torch.device("cuda" if on_gpu else "cpu"))
