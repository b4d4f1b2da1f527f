"""The configuration of a training run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from distsae.batches import STREAMS, NormalisationName
from distsae.checkpoint import CheckpointConfig
from distsae.errors import WrongInput
from distsae.kernels import KernelsName, PrefilterName
from distsae.losses import AlarmConfig, AuxiliaryConfig, AuxName
from distsae.model import AllocationName, least_selection_mb
from distsae.parallel import MeshConfig
from distsae.store.mounted_path import mounted_path
from distsae.store.norm_summary import LEAST_RATIO
from distsae.training.engines import DeepSpeedConfig, OptimizerConfig

__all__ = ["SizeConfig", "SweepConfig", "TrainConfig"]


@dataclass(frozen=True, kw_only=True)
class SizeConfig:
    """Size and sparsity of the SAE.

    Args:
        d_sae: number of features, over all ranks.
        k: mean matches per token.
        k_start: mean matches per token in the first step, after which it falls linearly to `k`; by default it is `k`
            throughout.
        k_anneal_share: share of the steps, above 0 and at most 1, in which the matches per token fall to `k`.
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
        last = round(self.k_anneal_share * steps) - 1  # the first step that has `k`
        if self.k_start is None or step >= last:
            return self.k
        return self.k_start + (self.k - self.k_start) * step / last


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Values to try: one SAE is trained for each combination, in its own folder in `out`.

    Args:
        d_sae: values of `sae.d_sae` to try.
        k: values of `sae.k` to try.
        allocation: values of `allocation` to try.
        aux: values of `aux` to try.
        lr: values of `optimizer.lr` to try.
        seed: values of `seed` to try; all members read rows in the same order, that of `order_seed`.
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
        """Returns the values of each key that has any."""
        return {name: tuple(values) for name, values in vars(self).items() if values}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Args:
        store: sealed activation store to read: a folder, or the URL of an object store.
        out: run folder to write to.
        hook: hook whose activations are read; may be left out if the store has only one.
        seed: seed of the initial features.
        order_seed: seed of the order in which rows are read; by default `seed`.
        steps: number of optimizer steps; by default as many as one epoch of the store has.
        batch_tokens: number of token rows in a global batch, a multiple of 64.
        accumulation: number of micro-batches that a global batch is split into. Matches are selected in each of them
            separately, with its share of the budget; their gradients make one update. Memory hardly depends on it.
        init: folder of an SAE or of the run that trained it, or name of one on the Hub, whose weights the run starts
            with; by default weights are random.
        normalise: normalisation of the activations as they are read: `token` gives each row the norm sqrt(d_in),
            `scale` gives them that norm on average, `centre` subtracts their mean first. The finished SAE works on raw
            activations: with `token` it normalises each row, `scale` and `centre` are folded into its weights.
        max_norm_ratio: multiple of the store's median norm, at least 3, over which rows are left out of training,
            calibration and measurement: in most language models a few rows have norms a hundred times the median, and
            would get much of the budget and of the loss. `none` leaves out no row.
        init_scale: factor between the initial encoder rows and the decoder rows; `auto` is the one with which the first
            batch is reconstructed best under the run's own rule, by least squares. Not used with `init`.
        sae: size and sparsity of the SAE.
        allocation: rule that spends the budget of matches: each token has the same share (token_choice), the largest
            scores of the batch get it (mutual_choice), or each feature has a quota (feature_choice).
        aux: auxiliary loss: none, on dead features (aux_k), or on dead and underutilised features (aux_zipf).
        quotas: quotas of Feature Choice: the densities measured before, but none far below the mean (measured);
            falling along a Zipf curve with the feature's rank by density (zipf); or equal for all features (uniform). A
            run that starts with Feature Choice has no densities yet, and begins with the curve.
        quotas_hold: whether each feature gets its quota on average over batches, or in every batch, as in the paper.
        zipf_s: exponent of the Zipf quotas; by default fitted to the densities when Feature Choice starts, or 1 if the
            run starts with it.
        zipf_q: offset of the ranks in the Zipf quotas; by default fitted together with `zipf_s`, or d_sae / 64 if the
            run starts with Feature Choice.
        quota_refresh: number of steps between two updates of measured or Zipf quotas, which rank the features anew by
            the densities that Mutual Choice would give them; by default quotas are set once. Costs a second selection
            per step.
        finetune_fc_from: share of the steps after which Feature Choice takes over from Mutual Choice, between 0 and 1;
            by default it never does.
        mesh: number of parts that the tokens and the features are split into.
        selection_mb: memory in MiB, on each rank, for one chunk of scores and the work of selecting from it; the
            candidates that are kept for the budget of matches take more. It does not change the matches. `auto` is
            128, on a GPU 4096.
        kernels: version of the step's operations: `auto` is the fast one for the device (`cpu` or `triton`),
            `reference` a plain one for comparison.
        prefilter: computation of the scores: `bf16` finds candidates by a bf16 product with a certified margin, and
            computes only these in fp32; `none` computes all scores in fp32; `auto` is bf16 on devices that multiply
            bf16 natively. The matches are the same.
        engine: engine that updates the weights: `plain` keeps Adam's state for all its features on every rank, unless
            `optimizer.divide_moments` divides it over the data axis; `deepspeed` always divides it.
        deepspeed: settings of the deepspeed engine.
        optimizer: settings of Adam and of its learning rate.
        ema_decay: decay per step of a running average of the weights, which the finished SAE gets; by default it gets
            the last weights. Needs memory for another copy of the weights.
        auxiliary: settings of the auxiliary loss.
        alarms: limits above which the run warns of a collapsing dictionary.
        checkpoint: settings of the checkpoints.
        resume: checkpoint to resume from: `auto` is the newest valid one in `out`, if there is one; `none` starts anew
            and refuses a folder that holds a run; otherwise the path of a checkpoint.
        hang_seconds: time limit in seconds for a step, and for other operations that should be short; beyond it the
            run ends with a report of what every process was doing. null sets no limit.
        wandb: mode of wandb tracking; `auto` is online if you are logged in to wandb, and offline otherwise.
        log_every: number of steps between two lines of metrics.jsonl.
        evaluate_every: number of steps between two measurements on held-out rows, a multiple of `log_every`; by
            default none are made.
        sweep: values to try; one SAE is trained for each combination, all side by side.
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
    normalise: NormalisationName = "token"
    max_norm_ratio: float | Literal["none"] = 10.0
    init_scale: float | Literal["auto"] = "auto"
    sae: SizeConfig = SizeConfig()
    allocation: AllocationName = "mutual_choice"
    aux: AuxName = "aux_zipf"
    quotas: Literal["uniform", "zipf", "measured"] = "measured"
    quotas_hold: Literal["on_average", "every_batch"] = "on_average"
    zipf_s: float | None = None
    zipf_q: float | None = None
    quota_refresh: int | None = None
    finetune_fc_from: float | None = None
    mesh: MeshConfig = MeshConfig()
    selection_mb: int | Literal["auto"] = "auto"
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
        """Seed of the order in which rows are read."""
        return self.seed if self.order_seed is None else self.order_seed

    @property
    def tokens_at_once(self) -> int:
        """Tokens of a micro-batch on one data rank."""
        return self.batch_tokens // self.mesh.data // self.accumulation

    def stored(self) -> dict[str, Any]:
        """Returns the nested config as a run folder keeps it: without `sweep`, since each member is its own run."""
        values = dataclasses.asdict(self)
        del values["sweep"]
        return values

    def __post_init__(self) -> None:
        if self.out:
            object.__setattr__(self, "out", str(mounted_path(self.out, "out")))
        if self.init is not None:
            object.__setattr__(self, "init", str(mounted_path(self.init, "init")))
        if self.resume not in ("auto", "none"):
            mounted_path(self.resume, "resume")  # kept as it is: a later start compares it with that of the checkpoint
        if self.steps is not None and self.steps < 1:
            raise WrongInput(f"`steps` (={self.steps}) must be at least 1")
        if self.max_norm_ratio != "none" and not self.max_norm_ratio >= LEAST_RATIO:
            raise WrongInput(
                f"`max_norm_ratio` (={self.max_norm_ratio}) must be at least {LEAST_RATIO:g}, so that common rows are "
                "kept; use a larger number, or none"
            )
        if self.init_scale != "auto" and not 0 < self.init_scale < float("inf"):
            raise WrongInput(f"`init_scale` (={self.init_scale}) must be positive; use a positive number, or auto")
        if self.log_every < 1:
            raise WrongInput(f"`log_every` (={self.log_every}) must be at least 1")
        if self.hang_seconds is not None and not 0 < self.hang_seconds < float("inf"):
            raise WrongInput(f"`hang_seconds` (={self.hang_seconds}) must be positive, or null for no limit")
        if self.evaluate_every is not None and (self.evaluate_every < 1 or self.evaluate_every % self.log_every):
            raise WrongInput(
                f"`evaluate_every` (={self.evaluate_every}) must be a positive multiple of `log_every` "
                f"(={self.log_every}), since measurements are part of logged lines"
            )
        if self.engine == "deepspeed":
            for name, value in (("state", "fp32"), ("divide_moments", False)):
                if (got := getattr(self.optimizer, name)) != value:
                    must = f"must be {value} with `engine` deepspeed, which keeps Adam's state itself, and divides it"
                    raise WrongInput(f"`optimizer.{name}` (={got}) {must}; leave it out, or use the plain engine")
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
        least = max(least_selection_mb(self.tokens_at_once), 1)
        if self.selection_mb != "auto" and self.selection_mb < least:
            raise WrongInput(
                f"`selection_mb` (={self.selection_mb}) must be at least {least}, enough for the scores of eight "
                f"features and the {self.tokens_at_once} tokens of a data rank; use auto, or give more"
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
                    f"`quota_refresh` (={self.quota_refresh}) must be given with `quotas` measured or zipf, and "
                    f"Feature Choice; got {self.quotas} and {self.allocation}; leave it out, or set `finetune_fc_from`"
                )
        if self.sae.k_start is not None and (
            self.allocation == "feature_choice" or (self.finetune_fc_from or 1) < self.sae.k_anneal_share
        ):
            switch = self.finetune_fc_from if self.allocation != "feature_choice" else 0
            raise WrongInput(
                f"`sae.k_start` (={self.sae.k_start}) must be given with Token or Mutual Choice for the first "
                f"`sae.k_anneal_share` (={self.sae.k_anneal_share}) of the steps; got Feature Choice from {switch} on; "
                "leave it out, or use a smaller `sae.k_anneal_share`"
            )
        if self.finetune_fc_from is not None:
            if not 0 < self.finetune_fc_from < 1:
                raise WrongInput(f"`finetune_fc_from` (={self.finetune_fc_from}) must be between 0 and 1")
            if self.allocation != "mutual_choice":
                raise WrongInput(
                    f"`finetune_fc_from` (={self.finetune_fc_from}) must be given with `allocation` mutual_choice; got "
                    f"{self.allocation}; leave it out, or train with Mutual Choice first"
                )
