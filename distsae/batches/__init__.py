"""The resumable, mesh-independent batch order and its reader."""

from distsae.batches.normalisation import Normalisation, NormalisationName
from distsae.batches.reader import BatchReader
from distsae.batches.stream_order import STREAMS, Slice, StreamOrder

__all__ = ["STREAMS", "BatchReader", "Normalisation", "NormalisationName", "Slice", "StreamOrder"]
