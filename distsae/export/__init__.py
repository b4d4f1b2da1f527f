"""The doors of a finished SAE: out, as the files of another tool or onto the Hub; and in, from such files."""

from distsae.export.config import ExportConfig, ImportConfig
from distsae.export.saebench import BenchSAE

__all__ = ["BenchSAE", "ExportConfig", "ImportConfig"]
