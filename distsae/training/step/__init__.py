"""The mathematics of one batch: its losses, its gradients, what its selections cost."""
