"""How good an SAE is: fidelity, spliced loss, density, adaptivity, on text that training never read."""

from distsae.evaluation.adaptivity import EqualShares, in_shares
from distsae.evaluation.bootstrap import Bootstrap, Estimate
from distsae.evaluation.config import EvaluateConfig
from distsae.evaluation.density import Densities, summarise
from distsae.evaluation.evaluate import evaluate
from distsae.evaluation.fidelity import fvu, nmse
from distsae.evaluation.spliced import loss_recovered

__all__ = [
    "Bootstrap",
    "Densities",
    "EqualShares",
    "Estimate",
    "EvaluateConfig",
    "evaluate",
    "fvu",
    "in_shares",
    "loss_recovered",
    "nmse",
    "summarise",
]
