"""What turns gradients into new weights: the plain engine, DeepSpeed, Adam's state, the average of the weights."""
