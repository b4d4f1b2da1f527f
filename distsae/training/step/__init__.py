"""The mathematics of one batch: its selections and their cost, its losses, its gradients."""

from distsae.training.step.accumulation import joined_outcome, micro_batches
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
    "joined_outcome",
    "micro_batches",
    "watched",
]
