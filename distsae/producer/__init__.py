"""Produces activation stores from text, with any number of processes."""

from __future__ import annotations

from distsae.producer.config import ProduceConfig
from distsae.producer.produce import produce

__all__ = ["ProduceConfig", "produce"]
