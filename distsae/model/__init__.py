"""The feature shard that is trained, and the frozen SAE that comes out."""

from distsae.model.feature_shard import FeatureShard, score_chunks
from distsae.model.sae import SAE, AllocationName, SAEConfig

__all__ = ["SAE", "AllocationName", "FeatureShard", "SAEConfig", "score_chunks"]
