"""The step, the loop and the engines."""

from distsae.training.config import AuxiliaryConfig, CheckpointConfig, SizeConfig, TrainConfig
from distsae.training.engine import Engine
from distsae.training.loop import train
from distsae.training.plain_engine import OptimizerConfig, PlainEngine
from distsae.training.step import StepOutcome, training_step

__all__ = [
    "AuxiliaryConfig",
    "CheckpointConfig",
    "Engine",
    "OptimizerConfig",
    "PlainEngine",
    "SizeConfig",
    "StepOutcome",
    "TrainConfig",
    "train",
    "training_step",
]
