"""The settings of `distsae plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from distsae.batches import STREAMS
from distsae.errors import WrongInput
from distsae.kernels import MomentsName
from distsae.losses import AuxName
from distsae.model import AllocationName
from distsae.planning.cluster.hardware import HardwareName

__all__ = ["PlanConfig"]

_AT_LEAST = ("gpus", "gpus_per_node", "data", "feature", "unit_rows", "chunk_rows", "context_length", "max_inodes")
_POSITIVE = (
    "memory_gb",
    "host_gb",
    "network_gb_per_second",
    "disk_gb_per_second",
    "producer_tokens_per_second",
    "model_parameters",
    "epochs",
)


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """A training run on a cluster, as far as a plan needs to know it.

    Args:
        d_sae: number of features, over all ranks.
        d_in: width of the activations; may be left out with `store` or `model`.
        store: sealed store that is read, which tells `d_in`, `dtype`, `tokens` and the sizes of its units.
        model: folder or Hugging Face name of the language model, which tells `d_in` and `model_parameters`; its weights
            are not loaded.
        hook: hook whose activations are read; with `model` its width is looked up, with `store` it may be left out if
            the store has only one.
        k: mean matches per token.
        batch_tokens: token rows of a global batch, a multiple of 64.
        allocation: rule that spends the budget of matches.
        aux: auxiliary loss; its second reconstruction is taken to be in use.
        optimizer_state: storage of Adam's moments, `--optimizer.state` of a training.
        engine: engine that updates the weights.
        divide_moments: whether data ranks divide Adam's moments and the update, `--optimizer.divide_moments` of a
            training; by default the better is taken on each mesh.
        tokens: token rows of the corpus that are trained on.
        epochs: times that they are trained on.
        gpus: devices of the run: GPUs, or cores with `--hardware cpu`.
        gpus_per_node: devices of a machine; by default what is usual for the hardware.
        hardware: kind of the devices; by default h100, or cpu with the check of one.
        check: file of `distsae check --json` on such a machine, whose measured rates replace those of the data sheets;
            `hardware` then only gives the memory, and what was not measured.
        data: data axis of the mesh; by default all that are possible are compared.
        feature: feature axis of the mesh, likewise.
        memory_gb: GiB that each device has; by default that of the hardware.
        host_gb: GiB of memory of a machine; likewise.
        network_gb_per_second: 10^9 bytes per second that reach one device from other machines; likewise.
        disk_gb_per_second: 10^9 bytes per second that a machine reads and writes where stores and runs are; likewise.
        dtype: dtype of the stored activations.
        unit_rows: token rows in a unit of the store.
        chunk_rows: token rows in a chunk.
        context_length: tokens in a context, BOS included.
        max_inodes: files and folders that a quota allows for the store.
        producer_tokens_per_second: token rows that one producer makes in a second; by default estimated from
            `model_parameters`.
        model_parameters: parameters of the language model that a token passes, each with a multiplication and an
            addition; with `model` they are counted.
        model_dtype: dtype in which producers compute.
        checkpoint_every: steps between two checkpoints.
        json: whether the plan is printed as JSON.
    """

    d_sae: int
    d_in: int | None = None
    store: str | None = None
    model: str | None = None
    hook: str | None = None
    k: int = 32
    batch_tokens: int = 65_536
    allocation: AllocationName = "mutual_choice"
    aux: AuxName = "aux_zipf"
    optimizer_state: MomentsName = "fp32"
    engine: Literal["plain", "deepspeed"] = "plain"
    divide_moments: bool | None = None
    tokens: int | None = None
    epochs: float = 1.0
    gpus: int = 8
    gpus_per_node: int | None = None
    hardware: HardwareName | None = None
    check: str | None = None
    data: int | None = None
    feature: int | None = None
    memory_gb: float | None = None
    host_gb: float | None = None
    network_gb_per_second: float | None = None
    disk_gb_per_second: float | None = None
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    unit_rows: int = 262_144
    chunk_rows: int = 8192
    context_length: int = 128
    max_inodes: int | None = None
    producer_tokens_per_second: float | None = None
    model_parameters: float | None = None
    model_dtype: Literal["fp16", "bf16", "fp32"] = "fp32"
    checkpoint_every: int = 1000
    json: bool = False

    def __post_init__(self) -> None:
        if self.d_in is None and self.store is None and self.model is None:
            raise WrongInput(
                "`d_in` must be given, or a `store` or `model` that tells it; use --d_in 4096, for example"
            )
        for name in ("d_in", "tokens", "checkpoint_every", *_AT_LEAST):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise WrongInput(f"`{name}` (={value}) must be at least 1; use a larger number")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise WrongInput(f"`{name}` (={value}) must be positive and finite; use a positive number")
        if self.context_length < 2:
            raise WrongInput(f"`context_length` (={self.context_length}) must be at least 2; use 2 or more")
        if self.batch_tokens < 1 or self.batch_tokens % STREAMS:
            raise WrongInput(
                f"`batch_tokens` (={self.batch_tokens}) must be a positive multiple of {STREAMS}; use 4096, for example"
            )
        if self.d_sae < 1 or not 1 <= self.k <= self.d_sae:
            raise WrongInput(f"`k` (={self.k}) must be between 1 and `d_sae` (={self.d_sae}); use a smaller `k`")
        for name, choices in {"optimizer_state": get_args(MomentsName)}.items():
            if getattr(self, name) not in choices:
                raise WrongInput(f"`{name}` (={getattr(self, name)}) must be one of {', '.join(choices)}; use fp32")
        if self.engine == "deepspeed" and self.optimizer_state != "fp32":
            raise WrongInput(
                f"`optimizer_state` (={self.optimizer_state}) must be fp32 with `engine` deepspeed, which keeps Adam's "
                "state itself; leave it out, or use the plain engine"
            )
        if self.chunk_rows > self.unit_rows:
            raise WrongInput(
                f"`chunk_rows` (={self.chunk_rows}) must be at most `unit_rows` (={self.unit_rows}); use smaller chunks"
            )
