"""Studies: methods side by side over one store, each at its own best learning rate; `run_study` is in `study`."""

from distsae.recipes.study.config import FromKeys, GridConfig, StudyConfig

__all__ = ["FromKeys", "GridConfig", "StudyConfig"]
