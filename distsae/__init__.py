"""distsae: very wide sparse autoencoders with Mutual Choice and Feature Choice allocation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distsae.model import SAE as SAE

__all__ = ["SAE", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # `SAE` brings torch with it; the command line's --help should not.
    if name == "SAE":
        from distsae.model import SAE

        return SAE
    raise AttributeError(f"module 'distsae' has no attribute '{name}'")
