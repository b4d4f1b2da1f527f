"""Starts `accelerate launch`, and starts it again after a crash; only `launcher` imports torch and accelerate."""

from distsae.launching.supervisor import SuperviseConfig, supervise

__all__ = ["SuperviseConfig", "supervise"]
