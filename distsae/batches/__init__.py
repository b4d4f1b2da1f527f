"""The order of batches, which can be resumed and does not depend on the mesh, and its reader."""

from distsae.batches.batch import Batch
from distsae.batches.left_out_rows import left_out_rows
from distsae.batches.normalisation import Normalisation, NormalisationName
from distsae.batches.reader import BatchReader
from distsae.batches.reader_memory import reader_bytes
from distsae.batches.stream_order import STREAMS, Slice, StreamOrder

__all__ = [
    "STREAMS",
    "Batch",
    "BatchReader",
    "Normalisation",
    "NormalisationName",
    "Slice",
    "StreamOrder",
    "left_out_rows",
    "reader_bytes",
]
