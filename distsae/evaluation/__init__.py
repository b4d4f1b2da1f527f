"""How good an SAE is: fidelity, spliced loss, density, adaptivity, on text that training never read."""

from distsae.evaluation.adaptivity import LossBins, by_loss
from distsae.evaluation.bootstrap import Bootstrap, Estimate
from distsae.evaluation.config import EvaluateConfig
from distsae.evaluation.density import Densities, summarise
from distsae.evaluation.evaluate import evaluate
from distsae.evaluation.fidelity import fvu, nmse
from distsae.evaluation.spliced import loss_recovered

__all__ = [
    "Bootstrap",
    "Densities",
    "Estimate",
    "EvaluateConfig",
    "LossBins",
    "by_loss",
    "evaluate",
    "fvu",
    "loss_recovered",
    "nmse",
    "summarise",
]
