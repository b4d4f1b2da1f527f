"""The demo, and the small language model and corpus that it runs on."""

from distsae.recipes.demo import run_demo, summary
from distsae.recipes.demo_stages import DemoConfig, Stage, demo_stages, embedded_model, launch_config

__all__ = ["DemoConfig", "Stage", "demo_stages", "embedded_model", "launch_config", "run_demo", "summary"]
