"""`distsae check`: whether a machine computes what training needs, and how fast; `run_check` is in `check`."""

from distsae.recipes.check.config import CheckConfig

__all__ = ["CheckConfig"]
