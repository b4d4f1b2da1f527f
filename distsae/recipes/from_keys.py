"""How a recipe gets the configs of the commands that it starts: from values by key, as the command line does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

__all__ = ["FromKeys"]

Config = TypeVar("Config")


class FromKeys(Protocol):
    """Builds configs from values by key, as the command line does (`distsae.cli.parsing.from_keys`)."""

    def __call__(self, config_class: type[Config], keys: Mapping[str, Any]) -> Config:
        """Returns a config.

        Args:
            config_class: dataclass to build.
            keys: values by name, nested or by dotted names.

        Raises:
            WrongInput: an unknown key or a value of the wrong type.
        """
        ...
