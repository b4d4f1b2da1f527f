"""The allocation rule of each step: one rule throughout, or Mutual Choice and then Feature Choice.

The quotas of Feature Choice follow from the densities that were measured before it starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from distsae.allocation import (
    DensityRanks,
    FeatureSelector,
    Matches,
    PricedSelector,
    Prices,
    QuotaCredit,
    Selector,
    TrainingSelector,
    fit_zipf,
    measured_quotas_of,
    zipf_quotas_of,
)
from distsae.errors import WrongInput
from distsae.losses import FiringStatistics
from distsae.model import AllocationName, training_selector
from distsae.parallel import Mesh
from distsae.training.config import TrainConfig
from distsae.training.rehearsal import Rehearsal

__all__ = ["Phases", "require_every_phase"]

_DEFAULT_S = 1.0
_DEFAULT_Q_SHARE = 1 / 64
_LEAST_SHARE = {"every_batch": 0.2, "on_average": 0.05}
"""Smallest measured quota, as a share of the mean quota."""


def require_every_phase(config: TrainConfig, steps: int) -> None:
    """Refuses settings of which nothing would be seen, because the run is too short for them.

    Args:
        config: configuration of the run.
        steps: number of optimizer steps of the run.

    Raises:
        WrongInput: Feature Choice would not begin, or begin with the first step; `k` would never fall; or held-out rows
            would never be measured.
    """
    if config.finetune_fc_from is not None:
        first = round(config.finetune_fc_from * steps)
        if not 0 < first < steps:
            raise WrongInput(
                f"`finetune_fc_from` (={config.finetune_fc_from}) must leave steps to both rules; got a switch after "
                f"step {first} of {steps}; use another share, or more `steps`"
            )
    if config.sae.k_start is not None and config.sae.k_at(0, steps) == config.sae.k < config.sae.k_start:
        raise WrongInput(
            f"`sae.k_anneal_share` (={config.sae.k_anneal_share}) must leave steps to `sae.k_start` "
            f"(={config.sae.k_start}); got less than two of {steps} steps; use a larger share, or leave out "
            "`sae.k_start`"
        )
    if config.evaluate_every is not None and config.evaluate_every > steps:
        raise WrongInput(
            f"`evaluate_every` (={config.evaluate_every}) must be at most the number of steps; got {steps}; use a "
            "smaller one, or leave it out"
        )


class Phases:
    """The allocation rule of each step, and the quotas of Feature Choice.

    Args:
        config: configuration of the run.
        steps: number of optimizer steps of the run.
        mesh: the mesh, as this rank sees it.
        device: device of the scores.

    Attributes:
        switch_step: step, counted from 0, with which Feature Choice takes over; None if it does not.
        credit: quotas and credit of this rank's features; None unless quotas hold in every batch of this phase.
        prices: quotas and prices of this rank's features; None unless quotas hold on average in this phase.
        rehearsal: Mutual Choice beside Feature Choice, for new quotas; None if quotas are set only once.
        rule: rule of the step last prepared.
        k: mean matches per token of the step last prepared.
        selector: selector of the rule.
    """

    def __init__(self, config: TrainConfig, steps: int, mesh: Mesh, device: torch.device) -> None:
        self._config = config
        self._steps = steps
        self._mesh = mesh
        self._device = device
        self._features = mesh.features(config.sae.d_sae)
        self.switch_step = round(config.finetune_fc_from * steps) if config.finetune_fc_from is not None else None
        self.credit: QuotaCredit | None = None
        self.prices: Prices | None = None
        self.rehearsal: Rehearsal | None = None
        self.rule: AllocationName = config.allocation
        self.k: float = config.sae.k
        self.selector = self.fresh_selector()

    def allocation(self, step: int) -> AllocationName:
        """Returns the rule of step `step`, counted from 0."""
        if self.switch_step is not None and step >= self.switch_step:
            return "feature_choice"
        return self._config.allocation

    def fresh_selector(self) -> TrainingSelector:
        """Returns a new selector of the current rule, without a forecast."""
        if self.prices is not None:
            return PricedSelector(self.k, self.prices.price)
        selector = training_selector(self.rule, self._config.sae.k, len(self._features))
        selector.set_budget(self.k)
        return selector

    @property
    def quota_per_token(self) -> Tensor | None:
        """Matches per token of this rank's features under Feature Choice, fp64 `[d_sae_local]`; None before it."""
        quotas = self.prices or self.credit
        return None if quotas is None else quotas.quota_per_token

    def fresh_credit(self) -> QuotaCredit | None:
        """Returns quotas that hold in every batch with a credit of zero; None if there are none."""
        if self.credit is None:
            return None
        return QuotaCredit(self.credit.quota_per_token, self._config.sae.k, self._mesh.feature)

    def budget(self, tokens: int) -> int:
        """Returns the largest number of matches of `tokens` tokens of the global batch, in the step last prepared."""
        return round(self.k * tokens)

    @property
    def observers(self) -> Sequence[Selector]:
        """Selectors whose matches in the next step are counted and train nothing."""
        return [self.rehearsal.selector] if self.rehearsal is not None else []

    def prepare(self, step: int, statistics: FiringStatistics) -> str | None:
        """Prepares the selector for a step. Collective.

        Args:
            step: number of the step, counted from 0.
            statistics: firing statistics of the run.

        Returns:
            A line for the user if quotas were set, otherwise None.
        """
        if self.allocation(step) != "feature_choice":
            self.k = self.selector.set_budget(self._config.sae.k_at(step, self._steps))
            return None
        self.k = self._config.sae.k
        line = None
        if self.quota_per_token is None:
            self._start_feature_choice(statistics)
            line = f"step {step + 1}: Feature Choice begins with {self._set_quotas(statistics)}"
        elif self.rehearsal is not None and self._refresh_is_due(step):
            line = f"step {step + 1}: features ranked again, {self._set_quotas(self.rehearsal.statistics)}"
        return line

    def grant_quotas(self, tokens: int) -> None:
        """Grants the quotas for the next `tokens` tokens of the global batch, if they hold in it. Collective."""
        if isinstance(self.selector, FeatureSelector):
            assert self.credit is not None
            credit, payment = self.credit, self.credit.pay_at_once(tokens)
            self.selector.grant(payment.quotas, payment.doubt, lambda: credit.corrected(payment))

    def move_prices(self, matches: Matches, tokens: int) -> None:
        """Moves the prices after `tokens` tokens of the global batch, if there are any. Collective.

        Args:
            matches: this rank's matches of these tokens.
            tokens: number of tokens of the global batch, without those that were left out.
        """
        if self.prices is not None and isinstance(self.selector, PricedSelector):
            self.prices.move(matches.feature, tokens, self.selector.cut, self._mesh.data)

    def observe(self, observed: Sequence[Matches], tokens: int) -> None:
        """Counts the matches of the observers in a batch.

        Args:
            observed: matches of each observer, in the order of `observers`.
            tokens: number of tokens of the global batch, without those that were left out.
        """
        if self.rehearsal is not None:
            self.rehearsal.statistics.update(observed[0].feature, tokens, self._mesh.data)

    def restore(self, step: int, switch_step: int | None, statistics: FiringStatistics) -> None:
        """Creates the quota tensors that a checkpoint then fills; a phase that has begun stays.

        Args:
            step: number of optimizer steps done at the checkpoint.
            switch_step: `switch_step` at the checkpoint. If the number of steps has changed since, a switch in the past
                stays where it was, and one in the future moves.
            statistics: firing statistics of the run.
        """
        if switch_step is not None and self.switch_step is not None:
            self.switch_step = switch_step if step > switch_step else max(self.switch_step, step)
        # A checkpoint taken just before Feature Choice starts holds no quotas yet.
        if step > 0 and self.allocation(step - 1) == "feature_choice":
            self._start_feature_choice(statistics)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live tensors by name: those with one row per local feature, and scalars, equal on all ranks."""
        tensors: dict[str, Tensor] = {}
        if self.credit is not None:
            tensors |= {"quotas.per_token": self.credit.quota_per_token, "quotas.credit": self.credit.credit}
        if self.prices is not None:
            tensors |= {"quotas.per_token": self.prices.quota_per_token, "quotas.price": self.prices.price}
            tensors |= {"quotas.least_price": self.prices.least}
        if self.rehearsal is not None:
            tensors |= self.rehearsal.tensors()
        return tensors

    def forecasts(self) -> dict[str, dict[str, float | None]]:
        """Returns, by name, the forecast of each selector; it saves effort and changes no selection."""
        return {name: selector.forecast() for name, selector in self._selectors().items()}

    def restore_forecasts(self, forecasts: Mapping[str, Mapping[str, float | None]]) -> None:
        """Gives each selector its forecast, as `forecasts` returned it on any mesh; call it after `restore`.

        A selector that is missing from `forecasts` has no forecast.
        """
        for name, selector in self._selectors().items():
            selector.restore_forecast(forecasts.get(name, {}))

    def _selectors(self) -> dict[str, TrainingSelector]:
        return {"rule": self.selector} | ({"rehearsal": self.rehearsal.selector} if self.rehearsal else {})

    def _start_feature_choice(self, statistics: FiringStatistics) -> None:
        """Creates what Feature Choice needs, with quotas and credit of zero, or prices of 1."""
        k = self._config.sae.k
        self.rule = "feature_choice"
        quotas = torch.zeros(len(self._features), dtype=torch.float64, device=self._device)
        if self._config.quotas_hold == "on_average":
            self.prices = Prices(quotas)
        else:
            self.credit = QuotaCredit(quotas, k, self._mesh.feature)
        self.selector = self.fresh_selector()
        if self._config.quota_refresh is not None:
            self.rehearsal = Rehearsal(k, statistics)

    def _refresh_is_due(self, step: int) -> bool:
        refresh = self._config.quota_refresh
        return refresh is not None and (step - (self.switch_step or 0)) % refresh == 0

    def _set_quotas(self, statistics: FiringStatistics) -> str:
        """Sets the quotas by the measured densities, keeps credit or prices, and describes them. Collective."""
        quotas = self.quota_per_token
        assert quotas is not None
        d_sae, k = self._config.sae.d_sae, self._config.sae.k
        if self._config.quotas == "uniform":
            quotas.fill_(k / d_sae)
            return f"uniform quotas, {k / d_sae:.3g} matches per token each"
        ranks = DensityRanks.measure(statistics.density(), self._mesh.feature)
        fired = ranks.alive > 0
        if self._config.quotas == "measured" and fired:
            least_share = _LEAST_SHARE[self._config.quotas_hold]
            quotas.copy_(measured_quotas_of(ranks, k, least_share))
            return f"measured quotas, at least {least_share:g} of the mean quota each"
        s, q = self._config.zipf_s, self._config.zipf_q
        s_source = q_source = "given"
        if s is None or q is None:
            fit = fit_zipf(ranks)
            source = "default" if fit is None else f"fitted, R^2 {fit.r_squared:.3f}"
            if s is None:
                s, s_source = fit.s if fit is not None else _DEFAULT_S, source
            if q is None:
                q, q_source = fit.q if fit is not None else _DEFAULT_Q_SHARE * d_sae, source
        s_and_q = f"s {s:.3g} ({s_source}), q {q:.3g} ({q_source})"
        if s_source == q_source:
            s_and_q = f"s {s:.3g}, q {q:.3g} ({s_source})"
        if not fired:  # no feature has fired yet, so features are ranked by index
            position = torch.arange(1 + self._features.start, 1 + self._features.stop, device=self._device)
            ranks = DensityRanks.measure(1 / position.double(), self._mesh.feature)
        quotas.copy_(zipf_quotas_of(ranks, k, s, q))
        return f"Zipf quotas, {s_and_q}"
