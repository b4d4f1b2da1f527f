"""Explanations of features in words, from a language model behind an endpoint, and scores of these explanations."""

from distsae.reporting.explanations.config import ExplainConfig

__all__ = ["ExplainConfig"]
