"""Firing statistics and the features that the auxiliary loss trains."""

from distsae.losses.firing import FiringStatistics
from distsae.losses.underused import AuxName, Underused, underutilised

__all__ = ["AuxName", "FiringStatistics", "Underused", "underutilised"]
