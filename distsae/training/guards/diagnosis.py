"""Ends a run whose numbers are no longer finite, and saves what is needed to find out why.

Every rank writes its part of a bundle, `RUN/diagnosis/step-00000123/`: which tensors were not finite, the batch of the
rank, and the broken rows of its parameters. Checkpoints are not touched: they are of earlier steps, because the state
after the failed step is never saved.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from distsae import __version__
from distsae.checkpoint import Ranks, Shard
from distsae.checkpoint.names import checkpoints
from distsae.checkpoint.tensorfile import write_tensors
from distsae.errors import Diverged
from distsae.training.config import TrainConfig
from distsae.training.folder import RunFolder
from distsae.training.guards.agreement import named_ranks
from distsae.training.guards.numeric_summary import NumericSummary, summarise
from distsae.training.optimizer_step import StepSettings
from distsae.training.state import TrainingState
from distsae.training.step import BatchOutcome

__all__ = ["Diagnosis"]

_WEIGHTS = ("W_enc", "W_dec", "b_enc", "b_dec")
_METRICS_LINES = 100
"""Lines at the end of `metrics.jsonl` that are copied into the bundle."""


class Diagnosis:
    """Writes a bundle and ends the run when a number is not finite.

    Args:
        config: configuration of the run.
        folder: folder of the run.
        state: training state, with the parameters and Adam's moments.
        ranks: all ranks of the job.
        store: fingerprint of the store.
        wait_for_save: function that returns when no checkpoint is being saved.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        state: TrainingState,
        ranks: Ranks,
        store: str,
        wait_for_save: Callable[[], None],
    ) -> None:
        self._config = config
        self._folder = folder
        self._state = state
        self._ranks = ranks
        self._store = store
        self._wait_for_save = wait_for_save

    def check_weights(self, step: int, x: Tensor, settings: StepSettings) -> None:
        """Checks the weights after a step, before they are saved. Collective.

        Args:
            step: number of the step, counted from 1.
            x: this data rank's rows of the batch, `[tokens, d_in]`.
            settings: learning rate and rule of the step.

        Raises:
            Diverged: on every rank, if the weights of any rank are not finite.
        """
        # A sum can overflow although every weight is finite; only then are the weights looked at one by one.
        sums = torch.stack([value.detach().sum() for value in self._state.shard.parameters()])
        broken = not bool(sums.isfinite().all()) and any(
            summarise(value.detach()).not_finite for value in self._state.shard.parameters()
        )
        if any(self._ranks.exchange(broken)):
            self.stop(step, "weights are not finite after the update; they are not saved", x, settings)

    def stop(
        self,
        step: int,
        finding: str,
        x: Tensor,
        settings: StepSettings,
        outcome: BatchOutcome | None = None,
        cause: Exception | None = None,
    ) -> NoReturn:
        """Writes the bundle and raises, on every rank. Collective.

        Args:
            step: number of the step, counted from 1.
            finding: clause on what was not finite.
            x: this data rank's rows of the batch, `[tokens, d_in]`.
            settings: learning rate and rule of the step.
            outcome: outcome of the batch; None if the step ended before.
            cause: exception that reported the finding.

        Raises:
            Diverged: always; the text names the bundle, what each rank found and what to try.
        """
        bundle = self._folder.path / "diagnosis" / f"step-{step:08d}"
        tensors = self._tensors(x, outcome)
        self._wait_for_save()
        summaries = {name: summarise(tensor) for name, tensor in tensors.items()}
        failure = ""
        try:
            bundle.mkdir(parents=True, exist_ok=True)
            self._write_facts(bundle, step, finding, settings, summaries)
            self._write_tensors(bundle, tensors, summaries)
            if self._ranks.first:
                self._copy_run_files(bundle)
        except OSError as error:
            failure = f"{type(error).__name__}: {error}"
        not_finite = {name: found.not_finite_in_words() for name, found in summaries.items() if found.not_finite}
        reports = self._ranks.exchange(_RankReport(platform.node(), failure, not_finite))
        raise Diverged(
            f"step {step}: {finding}; {_findings(reports)}; {_bundle_status(bundle, reports)}; {_advice(reports)}"
        ) from cause

    def _tensors(self, x: Tensor, outcome: BatchOutcome | None) -> dict[str, Tensor]:
        """Returns the tensors of this rank that may have caused the failure, by name."""
        tensors = {"batch": x} | {name: value.detach() for name, value in self._state.shard.named_parameters()}
        kept = self._state.engine.tensors()
        of_rank = {name: value.local if isinstance(value, Shard) else value for name, value in kept.items()}
        # Moments of DeepSpeed are left out: they would have to be gathered from all ranks first.
        moments = {name: value for name, value in of_rank.items() if isinstance(value, Tensor) and value.numel()}
        tensors |= {name: value for name, value in moments.items() if value.shape and value.is_floating_point()}
        if outcome is not None:
            for term, kind in zip(outcome.gradients.terms, ("main", "auxiliary"), strict=False):
                tensors |= {f"gradient.{kind}.x_hat": term.g, f"gradient.{kind}.scores": term.dots}
        return tensors

    def _write_facts(
        self,
        bundle: Path,
        step: int,
        finding: str,
        settings: StepSettings,
        summaries: Mapping[str, NumericSummary],
    ) -> None:
        facts = {
            "step": step,
            "what": finding,
            "learning_rate": settings.learning_rate,
            "allocation": settings.allocation,
            "k": settings.k,
            "rank": self._ranks.rank,
            "ranks": self._ranks.size,
            "data_rank": self._ranks.data,
            "feature_rank": self._ranks.feature,
            "first_feature": self._state.shard.features.start,
            "first_feature_of_moments": self._first_feature_of_moments,
            "host": platform.node(),
            "device": str(self._state.shard.b_dec.device),
            "versions": {"distsae": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
            "store": {"path": self._config.store, "fingerprint": self._store},
            "tensors": {name: asdict(summary) for name, summary in summaries.items()},
            "reproduce": self._reproduction(step),
        }
        (bundle / f"{self._file_stem}.json").write_text(json.dumps(facts, indent=2) + "\n")

    def _write_tensors(
        self, bundle: Path, tensors: Mapping[str, Tensor], summaries: Mapping[str, NumericSummary]
    ) -> None:
        """Writes the batch, and of each parameter its broken rows with their indices."""
        written = {"batch": tensors["batch"].float().cpu().contiguous()}
        for name, summary in summaries.items():
            if name in _WEIGHTS and summary.rows:
                rows = torch.tensor(summary.rows)
                written[f"{name}.rows"] = rows
                written[name] = tensors[name][rows.to(tensors[name].device)].float().cpu().contiguous()
        file = bundle / f"{self._file_stem}.safetensors"
        file.unlink(missing_ok=True)  # an earlier attempt may have failed at the same step
        write_tensors(file, written)

    def _copy_run_files(self, bundle: Path) -> None:
        (bundle / "config.yaml").write_bytes((self._folder.path / "config.yaml").read_bytes())
        metrics = self._folder.path / "metrics.jsonl"
        lines = metrics.read_text().splitlines(keepends=True) if metrics.is_file() else []
        (bundle / "metrics.jsonl").write_text("".join(lines[-_METRICS_LINES:]))

    @property
    def _file_stem(self) -> str:
        return f"rank-{self._ranks.rank:05d}"

    @property
    def _first_feature_of_moments(self) -> int:
        """The feature of the first row of Adam's moments, which may be divided over the data ranks."""
        kept = self._state.engine.tensors()["adam.exp_avg.W_enc"]
        return kept.offset if isinstance(kept, Shard) else self._state.shard.features.start

    def _reproduction(self, step: int) -> dict[str, str | None]:
        """Returns how to do the failed step again, and from which checkpoint."""
        saved = checkpoints(self._folder.checkpoints)
        return {
            "checkpoint": str(saved[-1]) if saved else None,
            "how": "train with this config.yaml into a copy of the run folder without `sae/` and `diagnosis/`, on the "
            f"same mesh: the run resumes from the newest checkpoint and reaches the same numbers at step {step}",
        }


@dataclass(frozen=True)
class _RankReport:
    """One rank's report to the others.

    Args:
        host: host of the rank.
        failure: why the rank could not write its part of the bundle; empty if it could.
        not_finite: description of each tensor of the rank that is not finite, by name.
    """

    host: str
    failure: str
    not_finite: dict[str, str]


def _findings(reports: list[_RankReport]) -> str:
    """Returns a clause on which ranks have which broken tensors; ranks with the same ones are named together."""
    hosts = [report.host for report in reports]
    ranks_of: dict[tuple[str, ...], list[int]] = {}
    for rank, report in enumerate(reports):
        found = tuple(f"{name}: {words}" for name, words in report.not_finite.items())
        ranks_of.setdefault(found, []).append(rank)
    parts = [
        f"not finite on {named_ranks(ranks, hosts)}: {', '.join(found)}" for found, ranks in ranks_of.items() if found
    ]
    return "; ".join(parts) or "batch and weights are finite on every rank: numbers have become too large"


def _bundle_status(bundle: Path, reports: list[_RankReport]) -> str:
    """Returns a clause on what the bundle holds, or which ranks could not write their part of it."""
    failed = [rank for rank, report in enumerate(reports) if report.failure]
    if not failed:
        return f"{bundle} has the batch and the broken weights"
    ranks = named_ranks(failed, [report.host for report in reports])
    return f"{bundle} is not complete: {ranks} could not write ({reports[failed[0]].failure})"


def _advice(reports: list[_RankReport]) -> str:
    broken = {name for report in reports for name in report.not_finite}
    if "batch" in broken:
        return "check the store (`distsae store verify`), whose rows are not finite, and produce those again"
    if broken.intersection(_WEIGHTS):
        return "lower `optimizer.lr`; if only one rank has broken weights and it happens again, check its machine"
    return "lower `optimizer.lr`, set `optimizer.clip_norm`, or check the store for rows of huge values"
