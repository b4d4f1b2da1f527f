"""Starting `accelerate launch`, and starting it again. Nothing here but `launcher` imports torch or accelerate."""

from distsae.launching.supervisor import SuperviseConfig, supervise

__all__ = ["SuperviseConfig", "supervise"]
