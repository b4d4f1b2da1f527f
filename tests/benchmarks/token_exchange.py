"""Token Choice over feature ranks: what the agreed bound spares the gather of each rank's `k` largest a token.

python -m tests.benchmarks.token_exchange
"""

from __future__ import annotations

import argparse
import statistics
import time

from distsae.allocation import ExactScores, TokenSelector
from distsae.allocation.selector import settled
from distsae.parallel import GroupCollective, Mesh
from tests.benchmarks.score_batches import ScoreBatches
from tests.distributed.processes import run_on_mesh


def measure(mesh: Mesh, d_sae: int, d_in: int, tokens: int, k: int, steps: int) -> list[tuple[float, int, int]]:
    """Returns seconds, collectives and bytes received of each batch's exchange."""
    features, placement = mesh.features(d_sae), mesh.placement(d_sae, tokens)
    batches, selector = ScoreBatches(d_sae, d_in, tokens, features), TokenSelector(k)
    groups = [group for group in (mesh.feature, mesh.world) if isinstance(group, GroupCollective)]
    found = []
    for step in range(steps + 1):
        selector.start(placement, tokens)
        for first, pre_acts in batches.chunks(step):
            selector.offer(first, ExactScores(pre_acts))
        calls, received = (sum(getattr(group, name) for group in groups) for name in ("collectives", "bytes_received"))
        began = time.perf_counter()
        settled([selector])
        seconds = time.perf_counter() - began
        after = [sum(getattr(group, name) for group in groups) for name in ("collectives", "bytes_received")]
        found.append((seconds, after[0] - calls, after[1] - received))
    return found[1:]


def main() -> None:
    """Prints a table for two and for four ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d_sae", type=int, default=32768)
    parser.add_argument("--d_in", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    given = parser.parse_args()
    print("| ranks | collectives | MB received | share of a gather of `k` scores a token and rank | ms, median |")
    print("|---|---|---|---|---|")
    for ranks in (2, 4):
        found = run_on_mesh(measure, (1, ranks), *vars(given).values(), seconds=3600)
        slowest = [max(rank[step][0] for rank in found) for step in range(given.steps)]
        received = statistics.mean(step[2] for step in found[0])
        whole = (ranks - 1) * given.tokens * given.k * 4
        print(
            f"| {ranks} | {statistics.median(step[1] for step in found[0]):g} | {received / 1e6:.2f} | "
            f"{received / whole:.0%} | {1000 * statistics.median(slowest):.0f} |"
        )


if __name__ == "__main__":
    main()
