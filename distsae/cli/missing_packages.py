"""A package that is not installed, as one line with the command that installs it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires

__all__ = ["missing_package"]

_DISTRIBUTIONS = {
    "attr": "attrs",
    "google": "google-crc32c",
    "google_crc32c": "google-crc32c",
    "huggingface_hub": "huggingface-hub",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Packages whose name for pip is not the one they are imported by."""


def missing_package(error: ModuleNotFoundError) -> str | None:
    """Returns the line for a module that could not be imported; None if it is one of distsae, which is a bug.

    Args:
        error: error of the import.
    """
    module = (error.name or "").partition(".")[0]
    if not module or module == "distsae":
        return None
    package = _DISTRIBUTIONS.get(module, module)
    return f"the package `{package}` must be installed for this; got none; run `pip install '{_wanted(package)}'`"


def _wanted(package: str) -> str:
    """Returns what pip should install: the package, in a version that distsae works with if it says which."""
    try:
        known = requires("distsae") or []
    except PackageNotFoundError:  # it runs from a checkout
        return package
    for requirement in known:
        name, version = re.fullmatch(r"([\w.-]+)(?:\[[^]]*\])?\s*([^;]*).*", requirement, re.DOTALL).groups()  # type: ignore[union-attr]
        if name.lower().replace("_", "-") == package.lower().replace("_", "-"):
            return f"{package}{version.strip()}"
    return package
