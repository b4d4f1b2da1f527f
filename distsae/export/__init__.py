"""The doors of a finished SAE: out, as the files of another tool or onto the Hub; and in, from such files."""

from distsae.export.config import ExportConfig, ImportConfig

__all__ = ["ExportConfig", "ImportConfig"]
