"""Training: a single optimizer step, a run of steps, and a job of runs on the processes of a launch."""

from distsae.checkpoint import CheckpointConfig
from distsae.losses import AuxiliaryConfig
from distsae.training.config import SizeConfig, SweepConfig, TrainConfig
from distsae.training.engines import Engine, OptimizerConfig, PlainEngine
from distsae.training.initial_state import begin_from, initial_shard, initial_state
from distsae.training.optimizer_step import NonFiniteStep, StepSettings, training_step
from distsae.training.state import TrainingState
from distsae.training.step import BatchOutcome, Gradients, Selectors, forward_backward
from distsae.training.train import train
from distsae.training.trained_run import TrainedRun

__all__ = [
    "AuxiliaryConfig",
    "BatchOutcome",
    "CheckpointConfig",
    "Engine",
    "Gradients",
    "NonFiniteStep",
    "OptimizerConfig",
    "PlainEngine",
    "Selectors",
    "SizeConfig",
    "StepSettings",
    "SweepConfig",
    "TrainConfig",
    "TrainedRun",
    "TrainingState",
    "begin_from",
    "forward_backward",
    "initial_shard",
    "initial_state",
    "train",
    "training_step",
]
