"""Draws `bounded.svg`: the units of a bounded store as they come and go, from a real producer and a real run.

Run it with `python docs/figures/bounded.py`; it takes a minute.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt

from distsae.recipes.demo_stages import embedded_model
from distsae.recipes.embedded_corpus import write_jsonl
from distsae.store import committed_units, read_attributes, reading, unit_sizes, windows

KEEP, HOOK = 4, "blocks.1.resid_post"
INK, FAINT, CHOSEN, OTHER = "#1b1f24", "#8a9099", "#0b6e99", "#b9d5e3"


def start(*words: object) -> subprocess.Popen:
    """Starts a command of distsae."""
    return subprocess.Popen([sys.executable, "-m", "distsae", *map(str, words)], stderr=subprocess.DEVNULL)


def watched(folder: Path) -> tuple[list[tuple[float, set[int], int]], int, tuple[range, ...]]:
    """Returns what was seen: seconds, committed train units, units released; their number; and the windows."""
    corpus, store = folder / "corpus.jsonl", folder / "store"
    write_jsonl(corpus)
    producer = start("produce", "--model", embedded_model(), "--corpus", corpus, "--hooks", f"[{HOOK}]", "--out", store,
                     "--max_rows", 400_000, "--unit_rows", 32_768, "--keep_units", KEEP)  # fmt: skip
    while not (store / "dataset.json").exists():
        assert producer.poll() is None
        time.sleep(0.05)
    run = start("train", "--store", store, "--out", folder / "run", "--sae.d_sae", 16384, "--sae.k", 16,
                "--batch_tokens", 2048, "--wandb", "off")  # fmt: skip
    attributes = read_attributes(store)
    assert attributes is not None
    units, seen, begun = len(unit_sizes(attributes)) - 1, [], time.monotonic()
    while run.poll() is None or producer.poll() is None:
        kept = {unit for unit in committed_units(store, units + 1) if unit < units}
        seen.append((time.monotonic() - begun, kept, reading(store).released))
        time.sleep(0.05)
    assert (run.returncode, producer.returncode) == (0, 0)
    return seen, units, windows(attributes)


def main() -> None:
    """Writes the picture beside this file."""
    plt.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "bounded"})
    with tempfile.TemporaryDirectory() as folder:
        seen, units, parts = watched(Path(folder))
    last = seen[-1][0]
    figure, axis = plt.subplots(figsize=(10, 4.2))
    for window in parts:
        begun = next(when for when, _, released in seen if released >= window.start)
        for unit in window:
            there = [when for when, kept, _ in seen if unit in kept]
            came, went = there[0], there[-1]
            read = max(came, begun)
            axis.barh(unit, read - came, left=came, height=0.62, color=OTHER)
            axis.barh(unit, went - read, left=read, height=0.62, color=CHOSEN)
        axis.axhline(window.stop - 0.5, color="#e4e7eb", linewidth=0.7, zorder=0)
    most = max(len(kept) for _, kept, _ in seen)
    axis.text(last, 0.1, "in the window that training reads", color=CHOSEN, fontsize=10, ha="right")
    axis.text(last, 1.1, "committed, waiting", color="#6f9fb8", fontsize=10, ha="right")
    axis.text(last, 2.1, f"at most {most} train units on disk at a time", color=INK, fontsize=10, ha="right")
    axis.set(xlim=(0, last), ylim=(units - 0.4, -0.6), yticks=range(0, units, 2))
    axis.set_xlabel("seconds", color=FAINT, fontsize=10, loc="left")
    axis.set_ylabel("unit", color=FAINT, fontsize=10, loc="top")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(colors=FAINT)
    figure.savefig(Path(__file__).with_suffix(".svg"), bbox_inches="tight", facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    main()
