"""Firing statistics, the features that the auxiliary loss trains, and alarms for a collapse."""

from distsae.losses.collapse import AlarmConfig, CollapseAlarms, Concentration
from distsae.losses.firing import FiringStatistics
from distsae.losses.underused import AuxName, Underused, underutilised

__all__ = [
    "AlarmConfig",
    "AuxName",
    "CollapseAlarms",
    "Concentration",
    "FiringStatistics",
    "Underused",
    "underutilised",
]
