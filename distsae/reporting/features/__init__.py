"""Pages about single features: how often each fires, how strongly, on what text, and beside which others."""

from distsae.reporting.features.config import FeaturesConfig

__all__ = ["FeaturesConfig"]
