"""Draws `allocations.svg`: the same scores and the same budget, given out in three ways.

Run it with `python docs/figures/allocations.py`.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LinearSegmentedColormap

from distsae.allocation import QuotaCredit, feature_choice, mutual_choice, token_choice, zipf_quotas

TOKENS, FEATURES, K = 16, 24, 3
INK, FAINT, CHOSEN = "#1b1f24", "#8a9099", "#0b6e99"


def scores() -> torch.Tensor:
    """Tokens differ in how much there is to say about them, features in how common they are."""
    generator = torch.Generator().manual_seed(7)
    richness = torch.rand(TOKENS, 1, generator=generator) * 1.6 + 0.5
    commonness = (torch.arange(1, FEATURES + 1) + 4.0) ** -0.8 * 5
    return (torch.rand(TOKENS, FEATURES, generator=generator) ** 2 * richness * commonness).round(decimals=3)


def main() -> None:
    """Writes the picture beside this file."""
    plt.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "allocations"})
    table = scores()
    quotas = QuotaCredit(zipf_quotas(FEATURES, K, s=1.0, q=4.0), K).pay(TOKENS)
    ways = [
        ("Token Choice", f"every token has {K} features", token_choice(table, K)),
        ("Mutual Choice", "rich tokens have more", mutual_choice(table, K * TOKENS)),
        ("Feature Choice", "every feature has its Zipf quota", feature_choice(table, quotas)),
    ]
    shades = LinearSegmentedColormap.from_list("scores", ["#ffffff", "#c9d3dc"])
    figure, axes = plt.subplots(1, 3, figsize=(11, 4.2), gridspec_kw={"wspace": 0.22})
    for axis, (title, subtitle, matches) in zip(axes, ways, strict=True):
        axis.pcolormesh(table.numpy(), cmap=shades, edgecolors="#eef1f4", linewidth=0.5)
        axis.scatter(matches.feature + 0.5, matches.token + 0.5, s=26, marker="s", color=CHOSEN, zorder=3)
        per_token = torch.bincount(matches.token, minlength=TOKENS)
        per_feature = torch.bincount(matches.feature, minlength=FEATURES)
        axis.barh(
            torch.arange(TOKENS) + 0.5, per_token * 0.6, left=FEATURES + 0.5, height=0.7, color=CHOSEN, alpha=0.45
        )
        axis.bar(torch.arange(FEATURES) + 0.5, -per_feature * 0.4, bottom=-0.5, width=0.7, color=CHOSEN, alpha=0.45)
        axis.set(xlim=(0, FEATURES + 7), ylim=(TOKENS, -7.5), xticks=[], yticks=[])
        axis.set_aspect("equal")
        axis.spines[:].set_visible(False)
        axis.set_title(title, color=INK, fontsize=13, fontweight="bold", loc="left", pad=16)
        axis.text(0, 1.02, f"{len(matches)} matches: {subtitle}", transform=axis.transAxes, color=FAINT, fontsize=9.5)
        axis.set_xlabel("features, common to rare", color=FAINT, fontsize=9.5, loc="left")
    axes[0].set_ylabel("tokens", color=FAINT, fontsize=9.5, loc="bottom")
    path = Path(__file__).with_suffix(".svg")
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    main()
