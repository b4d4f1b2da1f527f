"""The feature shard that is trained, and the frozen SAE that training produces."""

from distsae.model.feature_shard import FeatureShard, project_out, score_chunks
from distsae.model.match_rule import MatchRule
from distsae.model.sae import SAE
from distsae.model.sae_config import NORMALISATIONS, SAEConfig
from distsae.model.selection_memory import (
    ALL_CANDIDATES_BYTES,
    FIRST_STEP_BYTES,
    SELECTION_MB,
    chunk_size,
    least_selection_mb,
    selection_mb_on,
)
from distsae.model.training_rule import ALLOCATION_TITLES, AllocationName, needs_threshold, training_selector

__all__ = [
    "ALLOCATION_TITLES",
    "ALL_CANDIDATES_BYTES",
    "FIRST_STEP_BYTES",
    "NORMALISATIONS",
    "SAE",
    "SELECTION_MB",
    "AllocationName",
    "FeatureShard",
    "MatchRule",
    "SAEConfig",
    "chunk_size",
    "least_selection_mb",
    "needs_threshold",
    "project_out",
    "score_chunks",
    "selection_mb_on",
    "training_selector",
]
