"""Which allocation a step uses: Mutual Choice first, then, if asked for, Feature Choice from its densities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from distsae.allocation import (
    DensityRanks,
    FeatureSelector,
    Matches,
    MutualSelector,
    QuotaCredit,
    Selector,
    TokenSelector,
    fit_zipf,
    zipf_quotas_of,
)
from distsae.losses import FiringStatistics
from distsae.model import AllocationName, BatchSelector, batch_selector
from distsae.parallel import Mesh
from distsae.training.config import TrainConfig
from distsae.training.rehearsal import Rehearsal

__all__ = ["Phases"]

_DEFAULT_S, _DEFAULT_Q_SHARE = 1.0, 1 / 64


class Phases:
    """The allocation of each step, and the quotas that Feature Choice spends.

    Args:
        config: the run.
        steps: steps of the run.
        mesh: this process's place.
        device: where scores are.

    Attributes:
        rule: in force.
        k: mean matches per token of the step last prepared.
    """

    def __init__(self, config: TrainConfig, steps: int, mesh: Mesh, device: torch.device) -> None:
        self._config = config
        self._steps = steps
        self._mesh = mesh
        self._device = device
        self._features = mesh.features(config.sae.d_sae)
        self.switch_step = round(config.finetune_fc_from * steps) if config.finetune_fc_from is not None else None
        self.credit: QuotaCredit | None = None
        self.rehearsal: Rehearsal | None = None
        self.rule: AllocationName = config.allocation
        self.k: float = config.sae.k
        self.selector = self.fresh_selector()

    def allocation(self, step: int) -> AllocationName:
        """Returns the rule of step `step`, counted from 0."""
        if self.switch_step is not None and step >= self.switch_step:
            return "feature_choice"
        return self._config.allocation

    def fresh_selector(self) -> BatchSelector:
        """Returns a selector of the rule now in force, without a history."""
        selector = batch_selector(self.rule, self._config.sae.k, len(self._features))
        self._set_budget(selector)
        return selector

    @property
    def budget(self) -> int:
        """Matches that the global batch of the step last prepared may have."""
        parts = self._config.accumulation
        return parts * round(self.k * self._config.batch_tokens / parts)

    @property
    def observers(self) -> Sequence[Selector]:
        """Selectors that watch the next step and train nothing."""
        return [self.rehearsal.selector] if self.rehearsal is not None else []

    def prepare(self, step: int, statistics: FiringStatistics) -> str | None:
        """Gets the selector ready for step `step`; returns a line for people when quotas are set. Collective."""
        if self.allocation(step) != "feature_choice":
            k = self._config.sae.k_at(step, self._steps)
            self.k = round(k) if isinstance(self.selector, TokenSelector) else k
            self._set_budget(self.selector)
            return None
        self.k = self._config.sae.k
        line = None
        if self.credit is None:
            self._begin_feature_choice(statistics)
            line = f"step {step + 1}: Feature Choice begins with {self._set_quotas(statistics)}"
        elif self.rehearsal is not None and self._refresh_is_due(step):
            line = f"step {step + 1}: features ranked again, {self._set_quotas(self.rehearsal.statistics)}"
        return line

    def grant(self, tokens: int) -> None:
        """Pays the quotas of the next `tokens` tokens of the global batch, under Feature Choice. Collective."""
        if isinstance(self.selector, FeatureSelector):
            assert self.credit is not None
            self.selector.grant(self.credit.pay(tokens))

    def observe(self, observed: Sequence[Matches]) -> None:
        """Counts what the observers selected, in their order."""
        if self.rehearsal is not None:
            self.rehearsal.statistics.update(observed[0].feature, self._config.batch_tokens, self._mesh.data)

    def restore(self, step: int, switch_step: int | None, statistics: FiringStatistics) -> None:
        """Makes room for the quotas of a checkpoint, and keeps a phase that has begun.

        Args:
            step: steps done.
            switch_step: the step at which Feature Choice was to begin when the checkpoint was taken. With another
                number of steps now, a switch that lies behind stays where it was, and one ahead moves.
            statistics: the run's firing statistics.
        """
        if switch_step is not None and self.switch_step is not None:
            self.switch_step = switch_step if step > switch_step else max(self.switch_step, step)
        # A checkpoint taken just before Feature Choice begins holds no quotas yet.
        if step > 0 and self.allocation(step - 1) == "feature_choice":
            self._begin_feature_choice(statistics)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live tensors that the next steps depend on: one row a local feature, or the same on all ranks."""
        state: dict[str, Tensor] = {}
        if self.credit is not None:
            state |= {"quotas.per_token": self.credit.quota_per_token, "quotas.credit": self.credit.credit}
        if self.rehearsal is not None:
            state |= self.rehearsal.tensors()
        return state

    def forecasts(self) -> dict[str, dict[str, float | None]]:
        """Returns by name what the selectors expect of the next batch. It saves effort and changes no selection."""
        return {name: selector.forecast() for name, selector in self._selectors().items()}

    def restore_forecasts(self, forecasts: Mapping[str, Mapping[str, float | None]]) -> None:
        """Expects what `forecasts` returned, as far as it is there; on any mesh, after `restore`."""
        for name, selector in self._selectors().items():
            selector.restore_forecast(forecasts.get(name, {}))

    def _selectors(self) -> dict[str, BatchSelector]:
        return {"rule": self.selector} | ({"rehearsal": self.rehearsal.selector} if self.rehearsal else {})

    def _begin_feature_choice(self, statistics: FiringStatistics) -> None:
        """Gives every feature an empty purse."""
        k = self._config.sae.k
        self.rule = "feature_choice"
        self.selector = self.fresh_selector()
        nothing = torch.zeros(len(self._features), dtype=torch.float64, device=self._device)
        self.credit = QuotaCredit(nothing, k, self._mesh.feature)
        if self._config.quota_refresh is not None:
            self.rehearsal = Rehearsal(k, statistics)

    def _set_budget(self, selector: BatchSelector) -> None:
        """Gives a selector the matches per token of the present step; Feature Choice has its quotas."""
        if isinstance(selector, TokenSelector):
            selector.k = round(self.k)
        elif isinstance(selector, MutualSelector):
            selector.k = self.k

    def _refresh_is_due(self, step: int) -> bool:
        refresh = self._config.quota_refresh
        return refresh is not None and (step - (self.switch_step or 0)) % refresh == 0

    def _set_quotas(self, statistics: FiringStatistics) -> str:
        """Sets the shares by the densities measured so far, keeps the credit, and says what they are."""
        assert self.credit is not None
        d_sae, k = self._config.sae.d_sae, self._config.sae.k
        if self._config.quotas == "uniform":
            self.credit.quota_per_token.fill_(k / d_sae)
            return f"uniform quotas, {k / d_sae:.3g} matches per token each"
        ranks = DensityRanks.measure(statistics.density(), self._mesh.feature)
        s, q = self._config.zipf_s, self._config.zipf_q
        s_source = q_source = "given"
        if s is None or q is None:
            fit = fit_zipf(ranks)
            source = "default" if fit is None else f"fitted, R^2 {fit.r_squared:.3f}"
            if s is None:
                s, s_source = fit.s if fit is not None else _DEFAULT_S, source
            if q is None:
                q, q_source = fit.q if fit is not None else _DEFAULT_Q_SHARE * d_sae, source
        if not ranks.alive:  # nothing to rank by yet: the first feature is taken for the densest, and so on
            place = torch.arange(1 + self._features.start, 1 + self._features.stop, device=self._device)
            ranks = DensityRanks.measure(1 / place.double(), self._mesh.feature)
        self.credit.quota_per_token.copy_(zipf_quotas_of(ranks, k, s, q))
        if s_source == q_source:
            return f"Zipf quotas, s {s:.3g}, q {q:.3g} ({s_source})"
        return f"Zipf quotas, s {s:.3g} ({s_source}), q {q:.3g} ({q_source})"
