"""The step, the loop and the engines."""

from distsae.training.config import AuxiliaryConfig, CheckpointConfig, SizeConfig, TrainConfig
from distsae.training.engine import Engine
from distsae.training.gradients import Gradients
from distsae.training.loop import train
from distsae.training.optimizer import OptimizerConfig
from distsae.training.plain_engine import PlainEngine
from distsae.training.step import StepOutcome, training_step
from distsae.training.sweep import SweepConfig

__all__ = [
    "AuxiliaryConfig",
    "CheckpointConfig",
    "Engine",
    "Gradients",
    "OptimizerConfig",
    "PlainEngine",
    "SizeConfig",
    "StepOutcome",
    "SweepConfig",
    "TrainConfig",
    "train",
    "training_step",
]
