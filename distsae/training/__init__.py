"""The step, the loop and the engines."""

from distsae.training.config import AuxiliaryConfig, CheckpointConfig, SizeConfig, TrainConfig
from distsae.training.engines.optimizer import OptimizerConfig
from distsae.training.engines.plain import PlainEngine
from distsae.training.engines.protocol import Engine
from distsae.training.step.forward_backward import StepOutcome, training_step
from distsae.training.step.gradients import Gradients
from distsae.training.sweep import SweepConfig
from distsae.training.train import train

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
