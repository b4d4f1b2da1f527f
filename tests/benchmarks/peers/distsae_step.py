"""distsae's own step, with what the training loop does around it: the only module here that knows distsae's API."""

from __future__ import annotations

import torch
from torch import Tensor

import distsae
from distsae.allocation import FeatureSelector, MutualSelector, QuotaCredit, Selector, TokenSelector, zipf_quotas
from distsae.kernels import PrefilterName, kernels_for, prefilter_wanted
from distsae.losses import FiringStatistics
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import AuxiliaryConfig, OptimizerConfig, PlainEngine, Selectors, forward_backward
from distsae.training.thresholds import ThresholdTracker
from tests.benchmarks.peers.contestant import Data
from tests.benchmarks.peers.problem import Size

__all__ = ["build"]

_TOKENS = 10_000_000
"""Tokens of a whole run, of which these steps are some."""

_UNDERUSED = 0.1
"""Share of the features that `aux_zipf` trains: given, since no statistics are known after so few steps."""


class _Distsae:
    version = distsae.__version__
    warmup = 2  # the first step selects without a forecast of the cut

    def __init__(self, size: Size, data: Data, rule: str, aux: str, prefilter: PrefilterName) -> None:
        self._size = size
        self._data = data
        self._auxiliary = AuxiliaryConfig()
        self._mesh = build_mesh(MeshConfig(), 1, "cpu")
        device = data.mean.device
        self._shard = FeatureShard(
            size.d_in,
            size.d_sae,
            range(size.d_sae),
            data.mean,
            seed=0,
            kernels=kernels_for("auto", device),
            prefilter=prefilter_wanted(prefilter, device),
        )
        self._engine = PlainEngine(self._shard, self._mesh, OptimizerConfig())
        self._selector: Selector
        self._credit: QuotaCredit | None = None
        match rule:
            case "token_choice":
                self._selector = TokenSelector(size.k)
            case "mutual_choice":
                self._selector = MutualSelector(size.k)
            case _:
                self._selector = FeatureSelector(size.d_sae)
                self._credit = QuotaCredit(zipf_quotas(size.d_sae, size.k, s=1.0, q=size.d_sae / 64), size.k)
        auxiliary = None
        if aux:
            allowed = torch.rand(size.d_sae, generator=torch.Generator().manual_seed(1)) < _UNDERUSED
            auxiliary = MutualSelector(size.k * self._auxiliary.k_per_k, allowed)
        self._selectors = Selectors(self._selector, auxiliary)
        config = self._auxiliary
        self._statistics = FiringStatistics(size.d_sae, config.window(_TOKENS), config.dead_after(_TOKENS))
        self._thresholds = ThresholdTracker(size.d_sae)

    def step(self, x: Tensor) -> float:
        """Does one step, as the loop does it."""
        size, data = self._size, self._data
        if self._credit is not None:
            assert isinstance(self._selector, FeatureSelector)
            self._selector.grant(self._credit.pay(size.tokens))
        outcome = forward_backward(
            self._shard, x, self._mesh, self._selectors, data.mean, data.variance, self._auxiliary.alpha
        )
        self._engine.update(outcome.gradients, size.rate)
        self._thresholds.update(self._selector)
        self._statistics.update(outcome.matches.feature, size.tokens, self._mesh.data)
        return outcome.loss


def build(size: Size, data: Data, rule: str, aux: str = "", prefilter: PrefilterName = "auto") -> _Distsae:
    """Returns the trainer of an allocation, with `aux_zipf` if `aux` is not empty."""
    return _Distsae(size, data, rule, aux, prefilter)
