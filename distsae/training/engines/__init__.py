"""From gradients to new weights: the plain and the deepspeed engine, the average of the weights."""

from distsae.training.engines.deepspeed import DeepSpeedEngine
from distsae.training.engines.deepspeed_config import DeepSpeedConfig
from distsae.training.engines.optimizer import OptimizerConfig
from distsae.training.engines.plain import PlainEngine
from distsae.training.engines.protocol import Engine
from distsae.training.engines.weight_average import WeightAverage

__all__ = [
    "DeepSpeedConfig",
    "DeepSpeedEngine",
    "Engine",
    "OptimizerConfig",
    "PlainEngine",
    "WeightAverage",
]
