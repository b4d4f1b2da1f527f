"""Text to SAE in one command: producers and training side by side over a bounded store; `run_stream` is in `stream`."""

from distsae.recipes.stream.config import StreamConfig

__all__ = ["StreamConfig"]
