"""The feature shard that is trained, and the frozen SAE that comes out."""

from distsae.model.feature_shard import SELECTION_MB, FeatureShard, least_selection_mb, score_chunks
from distsae.model.sae import SAE, AllocationName, SAEConfig

__all__ = ["SAE", "SELECTION_MB", "AllocationName", "FeatureShard", "SAEConfig", "least_selection_mb", "score_chunks"]
