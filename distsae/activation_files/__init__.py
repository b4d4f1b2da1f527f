"""Activations of the user's own in files: npy, pt, safetensors, Parquet and Arrow, read without loading them whole."""

from distsae.activation_files.opening import open_activations, read_ids

__all__ = ["open_activations", "read_ids"]
