"""The mathematics of one batch: its selections and their cost, its losses, its gradients."""

from distsae.training.step.accumulation import joined_outcome, micro_batches
from distsae.training.step.encoder_scale import fitted_encoder_scale
from distsae.training.step.forward_backward import BatchOutcome, forward_backward
from distsae.training.step.gradients import Gradients, Term
from distsae.training.step.left_out import NONE_LEFT_OUT, LeftOut, left_out_of
from distsae.training.step.selection_cost import SelectionCost, watched
from distsae.training.step.selectors import Selected, Selectors

__all__ = [
    "NONE_LEFT_OUT",
    "BatchOutcome",
    "Gradients",
    "LeftOut",
    "Selected",
    "SelectionCost",
    "Selectors",
    "Term",
    "fitted_encoder_scale",
    "forward_backward",
    "joined_outcome",
    "left_out_of",
    "micro_batches",
    "watched",
]
