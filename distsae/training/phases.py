"""Which allocation a step uses: Mutual Choice first, then, if asked for, Feature Choice from its densities."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from distsae.allocation import (
    FeatureSelector,
    MutualSelector,
    QuotaCredit,
    TokenSelector,
    fit_zipf,
    uniform_quotas,
    zipf_quotas,
)
from distsae.losses import FiringStatistics
from distsae.model import AllocationName
from distsae.parallel import Mesh
from distsae.training.config import TrainConfig

__all__ = ["Phases"]

_DEFAULT_S, _DEFAULT_Q_SHARE = 1.0, 1 / 64


class Phases:
    """The allocation of each step, and the quotas that Feature Choice spends.

    Args:
        config: the run.
        steps: steps of the run.
        mesh: this process's place.
        device: where scores are.
    """

    def __init__(self, config: TrainConfig, steps: int, mesh: Mesh, device: torch.device) -> None:
        self._config, self._mesh, self._device = config, mesh, device
        self._features = mesh.features(config.sae.d_sae)
        self.switch_step = round(config.finetune_fc_from * steps) if config.finetune_fc_from is not None else None
        self.credit: QuotaCredit | None = None
        self.selector = self._first_selector()

    def allocation(self, step: int) -> AllocationName:
        """Returns the rule of step `step`, counted from 0."""
        if self.switch_step is not None and step >= self.switch_step:
            return "feature_choice"
        return self._config.allocation

    def prepare(self, step: int, statistics: FiringStatistics) -> str | None:
        """Gets the selector ready for step `step`; returns a line for people when Feature Choice begins."""
        line = None
        if self.allocation(step) == "feature_choice":
            if self.credit is None:
                line = self._begin_feature_choice(step, statistics)
            assert self.credit is not None
            assert isinstance(self.selector, FeatureSelector)
            quotas = self.credit.pay(self._config.batch_tokens)
            self.selector.grant(quotas[self._features.start : self._features.stop].to(self._device))
        return line

    def restore(self, step: int, switch_step: int | None) -> None:
        """Makes room for the quotas of a checkpoint, and keeps a phase that has begun.

        Args:
            step: steps done.
            switch_step: the step at which Feature Choice was to begin when the checkpoint was taken. With another
                number of steps now, a switch that lies behind stays where it was, and one ahead moves.
        """
        if switch_step is not None and self.switch_step is not None:
            self.switch_step = switch_step if step > switch_step else max(self.switch_step, step)
        # A checkpoint taken just before Feature Choice begins holds no quotas yet.
        if step > 0 and self.allocation(step - 1) == "feature_choice":
            self._use(torch.zeros(self._config.sae.d_sae, dtype=torch.float64))

    def state(self) -> dict[str, Tensor]:
        """Returns the live tensors that the next steps depend on; equal on all ranks."""
        if self.credit is None:
            return {}
        return {"quotas.per_token": self.credit.quota_per_token, "quotas.credit": self.credit.credit}

    def _first_selector(self) -> TokenSelector | MutualSelector | FeatureSelector:
        k = self._config.sae.k
        match self._config.allocation:
            case "token_choice":
                return TokenSelector(k)
            case "mutual_choice":
                return MutualSelector(k)
            case "feature_choice":
                return FeatureSelector(len(self._features))

    def _use(self, quota_per_token: Tensor) -> None:
        self.credit = QuotaCredit(quota_per_token)
        self.selector = FeatureSelector(len(self._features))

    def _begin_feature_choice(self, step: int, statistics: FiringStatistics) -> str:
        d_sae, k = self._config.sae.d_sae, self._config.sae.k
        density = torch.cat(self._mesh.feature.gather(statistics.density()))
        if self._config.quotas == "uniform":
            self._use(uniform_quotas(d_sae, k))
            return f"step {step + 1}: Feature Choice begins with uniform quotas, {k / d_sae:.3g} matches per token each"
        fit = fit_zipf(density)
        source: Literal["fitted", "given", "default"] = "given"
        s, q = self._config.zipf_s, self._config.zipf_q
        if s is None or q is None:
            source = "fitted" if fit is not None else "default"
            s = s if s is not None else fit.s if fit is not None else _DEFAULT_S
            q = q if q is not None else fit.q if fit is not None else _DEFAULT_Q_SHARE * d_sae
        rank = torch.empty(d_sae, dtype=torch.long)
        rank[density.sort(descending=True, stable=True).indices] = torch.arange(1, d_sae + 1)
        self._use(zipf_quotas(d_sae, k, s, q, rank))
        quality = f", R^2 {fit.r_squared:.3f}" if fit is not None and source == "fitted" else ""
        return f"step {step + 1}: Feature Choice begins with Zipf quotas, s {s:.3g}, q {q:.3g} ({source}{quality})"
