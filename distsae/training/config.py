"""Everything that a training run is told."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from distsae.batches import STREAMS, NormalisationName
from distsae.checkpoint import CheckpointConfig
from distsae.errors import WrongInput
from distsae.kernels import KernelsName, PrefilterName
from distsae.losses import AlarmConfig, AuxiliaryConfig, AuxName
from distsae.model import SELECTION_MB, AllocationName, least_selection_mb
from distsae.parallel import MeshConfig
from distsae.training.engines import DeepSpeedConfig, OptimizerConfig

__all__ = ["SizeConfig", "SweepConfig", "TrainConfig", "flat_keys"]


@dataclass(frozen=True, kw_only=True)
class SizeConfig:
    """The SAE.

    Args:
        d_sae: number of features, over all ranks.
        k: mean matches per token.
        k_start: mean matches per token at the start, from which they fall to `k`; by default they are `k` throughout.
        k_anneal_share: share of the steps over which they fall, linearly.
    """

    d_sae: int = 4096
    k: int = 32
    k_start: float | None = None
    k_anneal_share: float = 0.2

    def __post_init__(self) -> None:
        if self.d_sae < 1:
            raise WrongInput(f"`sae.d_sae` (={self.d_sae}) must be at least 1")
        if not 1 <= self.k <= self.d_sae:
            raise WrongInput(
                f"`sae.k` (={self.k}) must be between 1 and `sae.d_sae` (={self.d_sae}); use a smaller `sae.k`"
            )
        if self.k_start is not None and not self.k <= self.k_start <= self.d_sae:
            raise WrongInput(
                f"`sae.k_start` (={self.k_start}) must be between `sae.k` (={self.k}) and `sae.d_sae` (={self.d_sae})"
            )
        if not 0 < self.k_anneal_share <= 1:
            raise WrongInput(f"`sae.k_anneal_share` (={self.k_anneal_share}) must be above 0 and at most 1")

    def k_at(self, step: int, steps: int) -> float:
        """Returns the mean matches per token of step `step` (counted from 0) of `steps`."""
        last = round(self.k_anneal_share * steps) - 1  # the first step of `k`
        if self.k_start is None or step >= last:
            return self.k
        return self.k_start + (self.k - self.k_start) * step / last


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Values to try; one SAE is trained for each combination of them, in a folder of its own in `out`.

    Args:
        d_sae: values of `sae.d_sae`.
        k: values of `sae.k`.
        allocation: values of `allocation`.
        aux: values of `aux`.
        lr: values of `optimizer.lr`.
        seed: values of `seed`; the order of rows is that of `order_seed` for all.
    """

    d_sae: tuple[int, ...] = ()
    k: tuple[int, ...] = ()
    allocation: tuple[AllocationName, ...] = ()
    aux: tuple[AuxName, ...] = ()
    lr: tuple[float | Literal["auto"], ...] = ()
    seed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, values in self.given().items():
            if len(set(values)) < len(values):
                raise WrongInput(f"`sweep.{name}` (={[*values]}) must hold each value once; leave out the repetition")

    def given(self) -> dict[str, tuple[Any, ...]]:
        """Returns the keys that have values, with them."""
        return {name: tuple(values) for name, values in vars(self).items() if values}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Args:
        store: sealed activation store to read: a folder, or a URL of an object store.
        out: run folder to write.
        hook: hook to train on; may be left out if the store holds one only.
        seed: seed of the initial features.
        order_seed: seed of the order of rows; by default `seed`.
        steps: optimizer steps; by default one epoch.
        batch_tokens: token rows of a global batch, a multiple of 64.
        accumulation: micro-batches that a step's batch is cut into. Each is selected from on its own, so that Mutual
            Choice has as many smaller budgets; their gradients make one update. Memory hardly depends on it.
        init: SAE to begin from, the folder of it or of the run that trained it; by default features begin at random.
        normalise: what is done to activations as they are read: scale makes their mean norm sqrt(d_in); centre takes
            their mean away first. The finished SAE has it folded into its weights and works on raw activations.
        sae: size and sparsity.
        allocation: who gets the budget of matches: each token, the batch, or each feature.
        aux: auxiliary loss: none, on dead features (aux_k), or on dead and underutilised ones (aux_zipf).
        quotas: Feature Choice: the same quota for all features, or by rank along a Zipf curve.
        zipf_s: exponent of the Zipf quotas; by default fitted to the densities when Feature Choice starts (1 if the
            run starts with it).
        zipf_q: offset of the Zipf quotas; by default fitted likewise (d_sae / 64 if the run starts with it).
        quota_refresh: Feature Choice with Zipf quotas: steps between two rankings of the features by the densities
            that Mutual Choice would give them; never by default. It costs a second selection a step.
        finetune_fc_from: share of the steps after which Mutual Choice gives way to Feature Choice.
        mesh: how the processes share the work.
        selection_mb: MiB that one chunk of scores and the work of selecting from it may take on a rank; the candidates
            kept for the batch's budget of matches come on top. It changes neither the matches nor, much, the speed.
        kernels: which version of the step's operations: auto is the fast one of the device, reference the plain
            statement of each, for comparison.
        prefilter: bf16 finds candidates by a bf16 product with a certified margin and scores them in fp32; none
            computes every score in fp32; auto is bf16 where the device multiplies it natively. Selections are the same.
        engine: plain keeps all of Adam's state of its features on every rank; deepspeed shards it over the data axis.
        deepspeed: how far the deepspeed engine shards, and where the state lies.
        optimizer: Adam and its schedule.
        ema_decay: the finished SAE has a running average of the weights, of which each step leaves this share; by
            default it has the last ones. A copy of the weights more.
        auxiliary: details of the auxiliary loss.
        alarms: when to warn of a collapse.
        checkpoint: when state is saved.
        resume: `auto` goes on from the newest valid checkpoint in `out` if there is one, `none` refuses a folder that
            holds a run, a path names the checkpoint.
        hang_seconds: a step, or anything else that a process expects soon, that takes longer ends the run with what
            every process was doing; null waits for ever.
        wandb: tracking; `auto` is online when you are logged in to wandb and offline otherwise.
        log_every: steps between lines of metrics.jsonl.
        evaluate_every: steps between two measurements on held-out rows, a multiple of `log_every`; never by default.
        sweep: values of keys, for each combination of which an SAE is trained, all side by side.
    """

    store: str
    out: str
    hook: str | None = None
    seed: int = 0
    order_seed: int | None = None
    steps: int | None = None
    batch_tokens: int = 4096
    accumulation: int = 1
    init: str | None = None
    normalise: NormalisationName = "scale"
    sae: SizeConfig = SizeConfig()
    allocation: AllocationName = "mutual_choice"
    aux: AuxName = "aux_zipf"
    quotas: Literal["uniform", "zipf"] = "zipf"
    zipf_s: float | None = None
    zipf_q: float | None = None
    quota_refresh: int | None = None
    finetune_fc_from: float | None = None
    mesh: MeshConfig = MeshConfig()
    selection_mb: int = SELECTION_MB
    kernels: KernelsName = "auto"
    prefilter: PrefilterName = "auto"
    engine: Literal["plain", "deepspeed"] = "plain"
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    ema_decay: float | None = None
    auxiliary: AuxiliaryConfig = AuxiliaryConfig()
    alarms: AlarmConfig = AlarmConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    resume: str = "auto"
    hang_seconds: float | None = 600.0
    wandb: Literal["auto", "off", "offline", "online"] = "auto"
    log_every: int = 10
    evaluate_every: int | None = None
    sweep: SweepConfig = SweepConfig()

    @property
    def seed_of_order(self) -> int:
        """Seed of the order of rows."""
        return self.seed if self.order_seed is None else self.order_seed

    def stored(self) -> dict[str, Any]:
        """Returns the nested config as a run keeps it: without `sweep`, since each member is a run of its own."""
        values = dataclasses.asdict(self)
        del values["sweep"]
        return values

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise WrongInput(f"`steps` (={self.steps}) must be at least 1")
        if self.log_every < 1:
            raise WrongInput(f"`log_every` (={self.log_every}) must be at least 1")
        if self.hang_seconds is not None and not 0 < self.hang_seconds < float("inf"):
            raise WrongInput(f"`hang_seconds` (={self.hang_seconds}) must be positive, or null for no limit")
        if self.evaluate_every is not None and (self.evaluate_every < 1 or self.evaluate_every % self.log_every):
            raise WrongInput(
                f"`evaluate_every` (={self.evaluate_every}) must be a positive multiple of `log_every` "
                f"(={self.log_every}): what is measured goes into logged lines"
            )
        if self.engine == "deepspeed":
            if self.optimizer.state != "fp32":
                raise WrongInput(
                    f"`optimizer.state` (={self.optimizer.state}) must be fp32 with `engine` deepspeed, which keeps "
                    "Adam's state itself; leave it out, or use the plain engine"
                )
            if self.mesh.data * self.mesh.feature == 1:
                raise WrongInput("`engine` (=deepspeed) must have at least two processes to share state; use plain")
        if self.sae.d_sae < self.mesh.feature:
            raise WrongInput(
                f"`mesh.feature` (={self.mesh.feature}) must be at most `sae.d_sae` (={self.sae.d_sae}): every rank "
                "holds a feature; use fewer feature ranks"
            )
        if self.batch_tokens % self.mesh.data:
            raise WrongInput(
                f"`batch_tokens` (={self.batch_tokens}) must be divisible by `mesh.data` (={self.mesh.data})"
            )
        if self.accumulation < 1 or (self.accumulation > 1 and self.batch_tokens % (STREAMS * self.accumulation)):
            raise WrongInput(
                f"`accumulation` (={self.accumulation}) must be at least 1 and, times {STREAMS}, divide `batch_tokens` "
                f"(={self.batch_tokens})"
            )
        tokens = self.batch_tokens // self.mesh.data // self.accumulation
        least = max(least_selection_mb(tokens), 1)
        if self.selection_mb < least:
            raise WrongInput(
                f"`selection_mb` (={self.selection_mb}) must be at least {least}, room for the scores of eight "
                f"features and the {tokens} tokens of a data rank; give more, use a smaller `batch_tokens`, or a "
                "larger `mesh.data`"
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise WrongInput(f"`ema_decay` (={self.ema_decay}) must be between 0 and 1; leave it out for no average")
        if self.zipf_s is not None and not self.zipf_s >= 0:
            raise WrongInput(f"`zipf_s` (={self.zipf_s}) must not be negative")
        if self.zipf_q is not None and not self.zipf_q > -1:
            raise WrongInput(f"`zipf_q` (={self.zipf_q}) must be greater than -1")
        if self.quota_refresh is not None:
            if self.quota_refresh < 1:
                raise WrongInput(f"`quota_refresh` (={self.quota_refresh}) must be at least 1")
            if self.quotas == "uniform" or (self.allocation != "feature_choice" and self.finetune_fc_from is None):
                raise WrongInput(
                    f"`quota_refresh` (={self.quota_refresh}) must be given with `quotas` zipf and Feature Choice; got "
                    f"{self.quotas} and {self.allocation}; leave it out, or set `finetune_fc_from`"
                )
        if self.sae.k_start is not None and (
            self.allocation == "feature_choice" or (self.finetune_fc_from or 1) < self.sae.k_anneal_share
        ):
            begins = self.finetune_fc_from if self.allocation != "feature_choice" else 0
            raise WrongInput(
                f"`sae.k_start` (={self.sae.k_start}) must be given with Token or Mutual Choice for the first "
                f"`sae.k_anneal_share` (={self.sae.k_anneal_share}) of the steps; got Feature Choice from {begins} on; "
                "leave it out, or let it end before"
            )
        if self.finetune_fc_from is not None:
            if not 0 < self.finetune_fc_from < 1:
                raise WrongInput(f"`finetune_fc_from` (={self.finetune_fc_from}) must be between 0 and 1")
            if self.allocation != "mutual_choice":
                raise WrongInput(
                    f"`finetune_fc_from` (={self.finetune_fc_from}) must be given with `allocation` mutual_choice; got "
                    f"{self.allocation}; leave it out, or train with Mutual Choice first"
                )


def flat_keys(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested config with a key for each value, such as `sae.k`."""
    keys: dict[str, Any] = {}
    for name, value in values.items():
        keys.update(flat_keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return keys
