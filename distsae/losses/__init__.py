"""Firing statistics, the features that the auxiliary loss trains, and the alarms for a collapsing dictionary.

The losses of a batch are computed with its gradients, in `distsae/training/step/forward_backward.py`.
"""

from distsae.losses.auxiliary_config import AuxiliaryConfig
from distsae.losses.collapse import AlarmConfig, CollapseAlarms, Concentration
from distsae.losses.firing import FiringStatistics
from distsae.losses.underused import AuxName, Underused, underutilised

__all__ = [
    "AlarmConfig",
    "AuxName",
    "AuxiliaryConfig",
    "CollapseAlarms",
    "Concentration",
    "FiringStatistics",
    "Underused",
    "underutilised",
]
