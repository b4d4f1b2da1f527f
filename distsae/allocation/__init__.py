"""The paper's mathematics: which token-feature pairs get the budget of matches (arXiv 2411.02124)."""

from distsae.allocation.cache_blocks import cache_blocks
from distsae.allocation.density_ranks import DensityRanks
from distsae.allocation.feature_selector import LEAST_GUESSED_TOKENS, FeatureSelector
from distsae.allocation.matches import Matches
from distsae.allocation.mutual_selector import MutualSelector
from distsae.allocation.plain import feature_choice, mutual_choice, priced_choice, token_choice
from distsae.allocation.priced_selector import PricedSelector
from distsae.allocation.prices import Prices
from distsae.allocation.quota_credit import QuotaCredit
from distsae.allocation.quotas import measured_quotas_of, uniform_quotas, zipf_quotas, zipf_quotas_of
from distsae.allocation.score_ratios import ScoreRatios
from distsae.allocation.scores import ExactScores, Scores
from distsae.allocation.selector import Chunks, Placement, Selector, TrainingSelector, select
from distsae.allocation.threshold_selector import ThresholdSelector
from distsae.allocation.token_selector import TokenSelector
from distsae.allocation.zipf_fit import ZipfFit, fit_zipf

__all__ = [
    "LEAST_GUESSED_TOKENS",
    "Chunks",
    "DensityRanks",
    "ExactScores",
    "FeatureSelector",
    "Matches",
    "MutualSelector",
    "Placement",
    "PricedSelector",
    "Prices",
    "QuotaCredit",
    "ScoreRatios",
    "Scores",
    "Selector",
    "ThresholdSelector",
    "TokenSelector",
    "TrainingSelector",
    "ZipfFit",
    "cache_blocks",
    "feature_choice",
    "fit_zipf",
    "measured_quotas_of",
    "mutual_choice",
    "priced_choice",
    "select",
    "token_choice",
    "uniform_quotas",
    "zipf_quotas",
    "zipf_quotas_of",
]
