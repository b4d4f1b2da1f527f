"""Studies: methods side by side over one store, each at its own best learning rate; `run_study` is in `study`."""

from distsae.recipes.study.config import GridConfig, StudyConfig

__all__ = ["GridConfig", "StudyConfig"]
