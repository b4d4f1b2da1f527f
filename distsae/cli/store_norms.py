"""The norms of a store's rows as `distsae store info` shows them, as lines and as JSON values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distsae.store import NormSummary

__all__ = ["norm_facts", "norm_lines"]

_SHOWN = 5


def norm_facts(norms: NormSummary | None) -> dict[str, Any] | None:
    """Returns the norms at one hook as JSON values; None if the store has no histograms of them."""
    from distsae.store.outliers_in_words import OUTLIER_RATIO

    if norms is None:
        return None
    limit = norms.limit(OUTLIER_RATIO)
    return {
        "median": norms.median,
        "quantiles": {f"{share:g}": norm for share, norm in norms.quantiles.items()},
        "top_variance_shares": {f"{share:g}": carried for share, carried in norms.top_variance_shares.items()},
        "mean_over_rms": norms.mean_over_rms,
        "outliers": {
            "ratio": OUTLIER_RATIO,
            "limit": limit if math.isfinite(limit) else None,
            "rows": norms.rows_over(limit),
            "variance_share": norms.share_of_variance_over(limit),
            "positions": [list(count) for count in norms.positions_over(limit)],
            "token_ids": [list(count) for count in norms.tokens_over(limit)],
        },
    }


def norm_lines(hook: str, norms: NormSummary | None, store: str) -> list[str]:
    """Returns the norms at one hook as lines for people.

    Args:
        hook: hook of the store.
        norms: what is known of the norms there; None if the store has no histograms of them.
        store: the store as the user named it.
    """
    from distsae.store.outliers_in_words import OUTLIER_RATIO, percent

    if norms is None:
        return [f"norms of {hook}: not measured; run `distsae store measure {store}`"]
    limit = norms.limit(OUTLIER_RATIO)
    quantiles = [f"{100 * share:g}% {norm:.4g}" for share, norm in norms.quantiles.items() if share < 1]
    shares = [f"{percent(share)} of rows {percent(part)}" for share, part in norms.top_variance_shares.items()]
    over, carried = norms.rows_over(limit), percent(norms.share_of_variance_over(limit))
    lines = {
        "median": f"{norms.median:.4g}",
        "quantiles": f"{', '.join(quantiles)}, largest at most {norms.quantiles[1.0]:.4g}",
        "share of the variance": f"of the largest {', '.join(shares)}",
        "mean row / rms norm": f"{norms.mean_over_rms:.3g}",
        f"over {OUTLIER_RATIO:g} x median": f"{over:,} rows, {carried} of the variance",
    }
    if over:
        lines["  at positions"] = _counted(norms.positions_over(limit))
        lines["  of token ids"] = _counted(norms.tokens_over(limit)) or "unknown"
    return [f"norms of {hook}", *(f"  {name:<23} {value}" for name, value in lines.items())]


def _counted(counts: Sequence[tuple[int, int]]) -> str:
    shown = ", ".join(f"{value} ({rows:,})" for value, rows in counts[:_SHOWN])
    return f"{shown}, ..." if len(counts) > _SHOWN else shown
