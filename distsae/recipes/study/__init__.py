"""Studies: methods side by side over one store, each at its own best learning rate."""

from distsae.recipes.study.config import FromKeys, GridConfig, StudyConfig
from distsae.recipes.study.study import run_study

__all__ = ["FromKeys", "GridConfig", "StudyConfig", "run_study"]
