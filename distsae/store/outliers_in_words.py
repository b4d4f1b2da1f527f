"""One line for the user about a hook where few rows carry much of the variance; none where that is not so."""

from __future__ import annotations

from decimal import Decimal

from distsae.store.norm_summary import NormSummary

__all__ = ["OUTLIER_RATIO", "outliers_in_words", "percent"]

OUTLIER_RATIO = 10.0
"""Multiple of the median norm from which on the line calls a row an outlier."""

_TOP, _SHARE = 0.0001, 0.05


def outliers_in_words(hook: str, norms: NormSummary) -> str | None:
    """Returns what the largest rows at `hook` carry, and what to do about it; None if they do not matter.

    They matter if a row has more than 10 times the median norm, or if 0.01% of the rows carry more than 5% of the
    variance.
    """
    limit = norms.limit(OUTLIER_RATIO)
    rows = norms.rows_over(limit)
    if rows:
        share = percent(rows / norms.rows)
        found = f"1 row ({share}) has a norm" if rows == 1 else f"{rows:,} rows ({share}) have norms"
        return (
            f"{hook}: {found} over {OUTLIER_RATIO:g} times the median ({norms.median:.4g}) and "
            f"{'carries' if rows == 1 else 'carry'} {percent(norms.share_of_variance_over(limit))} of the variance"
            f"{_place(norms, limit)}; training leaves such rows out (max_norm_ratio)"
        )
    carried = norms.top_variance_share(_TOP)
    if carried <= _SHARE:
        return None
    return (
        f"{hook}: the {percent(_TOP)} of rows with the largest norms (up to {norms.quantiles[1.0]:.4g}, median "
        f"{norms.median:.4g}) carry {percent(carried)} of the variance; to leave them out in training, use a smaller "
        "max_norm_ratio"
    )


def percent(share: float) -> str:
    """Returns a share in percent, with two digits that count."""
    return f"{Decimal(f'{100 * share:.2g}'):f}%"  # `Decimal` writes it out where floats have an exponent


def _place(norms: NormSummary, limit: float) -> str:
    """Returns the position that most of the rows over a limit have, if there is one."""
    rows, (position, count) = norms.rows_over(limit), norms.positions_over(limit)[0]
    if 2 * count <= rows:
        return ""
    if rows == 1:
        return f", at position {position}"
    return f", {'all' if count == rows else percent(count / rows)} of them at position {position}"
