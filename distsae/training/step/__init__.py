"""The mathematics of one batch: its losses, its gradients, what its selections cost."""

from distsae.training.step.accumulation import joined, micro_batches
from distsae.training.step.forward_backward import BatchOutcome, forward_backward
from distsae.training.step.gradients import Gradients, Term
from distsae.training.step.selection_cost import SelectionCost, watched
from distsae.training.step.selectors import Selected, Selectors

__all__ = [
    "BatchOutcome",
    "Gradients",
    "Selected",
    "SelectionCost",
    "Selectors",
    "Term",
    "forward_backward",
    "joined",
    "micro_batches",
    "watched",
]
