"""Draws `exchange.svg`: how ranks find the global cut of Mutual Choice, from a real selection.

Run it with `python docs/figures/exchange.py`.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from distsae.allocation import mutual_choice

TOKENS, FEATURES, K, RANKS, BINS = 512, 4096, 16, 2, 40
INK, FAINT, CHOSEN, OTHER = "#1b1f24", "#8a9099", "#0b6e99", "#7fb0c9"


def batch(seed: int) -> torch.Tensor:
    """Pre-activations of sparse sums of features, as an encoder gives them."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(FEATURES, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    members = torch.randint(0, FEATURES, (TOKENS, 8), generator=generator)
    strength = torch.rand(TOKENS, 8, generator=generator) * 2 + 0.5
    return torch.einsum("tm,tmd->td", strength, rows[members]) @ rows.t()


def main() -> None:
    """Writes the picture beside this file."""
    plt.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "exchange"})
    last, now = (float(mutual_choice(batch(seed), K * TOKENS).score.min()) for seed in (1, 2))
    scores = batch(2)
    low, high = 0.9 * last, 1.1 * last
    shards = [shard[shard > low] for shard in scores.tensor_split(RANKS, dim=1)]
    edges = torch.linspace(low, high, BINS + 1)

    figure, axis = plt.subplots(figsize=(10, 3.6))
    below = torch.zeros(BINS)
    for rank, (shard, colour) in enumerate(zip(shards, (CHOSEN, OTHER), strict=True)):
        counts = torch.histogram(shard[shard < high], edges).hist
        above = int((shard >= high).sum())
        axis.bar(edges[:-1], counts, (high - low) / BINS * 0.9, bottom=below, align="edge", color=colour)
        axis.text(
            1.0,
            0.46 - 0.09 * rank,
            f"rank {rank}: {above:,} above",
            color=colour,
            fontsize=10,
            ha="right",
            transform=axis.transAxes,
        )
        below += counts
    place = int((now - low) / (high - low) * BINS)
    axis.add_patch(
        plt.Rectangle(
            (float(edges[place]), 0),
            (high - low) / BINS,
            float(below[place]) * 1.12,
            fill=False,
            color=INK,
            linewidth=1.3,
        )
    )
    axis.annotate(
        "the counts prove that the cut is in this bin;\nits scores are gathered",
        (float(edges[place + 1]), float(below[place])),
        (low + 0.56 * (high - low), float(below.max()) * 0.78),
        color=INK,
        fontsize=10,
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8},
    )
    axis.axvline(last, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axis.text(last, float(below.max()) * 1.06, "last cut", color=FAINT, fontsize=10, ha="center")
    axis.set(xlim=(low, high + 0.035 * last), yticks=[], xticks=[low, last, high], xticklabels=["0.9", "1", "1.1"])
    axis.set_xlabel("score, in units of the last cut", color=FAINT, fontsize=10, loc="left")
    axis.set_ylabel("scores held", color=FAINT, fontsize=10, loc="bottom")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(colors=FAINT)
    path = Path(__file__).with_suffix(".svg")
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    main()
