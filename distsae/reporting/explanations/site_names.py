"""Puts explanations into the site of the feature pages, whose list and pages show them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from distsae.durable import replace
from distsae.progress import say
from distsae.reporting.explanations.result_folder import FeatureResult
from distsae.reporting.features.site_script import EXPLANATIONS_CALL, EXPLANATIONS_SCRIPT, data_script

__all__ = ["name_in_site"]


def name_in_site(pages: Path, results: Iterable[FeatureResult]) -> None:
    """Writes the explanations for the site, in place of earlier ones; does nothing where the pages have no site.

    Pages that may not be written stay as they are, and a line says so.

    Args:
        pages: folder of the pages.
        results: results of features.
    """
    script = pages / EXPLANATIONS_SCRIPT
    if not script.is_file():
        return
    content = {
        str(result.feature): [
            result.explanation,
            _rounded(result.detection.balanced_accuracy),
            _rounded(result.fuzzing.balanced_accuracy),
        ]
        for result in sorted(results, key=lambda result: result.feature)
        if result.explanation is not None
    }
    try:
        replace(script, data_script(EXPLANATIONS_CALL, content))
    except OSError as error:
        say(f"the site in {pages} does not show the explanations: {error.strerror}")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
