"""A transformers model: loaded, read at its hooks, run on with a reconstruction in place."""
