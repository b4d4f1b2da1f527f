"""Exchanges that find the global cut of Mutual Choice: bytes, collectives and time, side by side in one run.

Every method starts from the candidates that a rank holds after its encoder has run, and ends with the matches of the
rank. All see the same scores: fresh batches of sparse sums of Zipf-distributed features, encoded by fixed weights.

    python -m tests.benchmarks.mutual_exchange                 # 2 and 4 ranks, d_sae 131072, 4096 tokens, k 32
    python -m tests.benchmarks.mutual_exchange --d_sae 16384   # quicker
    python -m tests.benchmarks.mutual_exchange --loud 10       # the first rank's scores are 10 times larger
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation import ExactScores, Matches, MutualSelector, Placement, select
from distsae.allocation.selector import settled
from distsae.parallel import GroupCollective, Mesh
from tests.benchmarks.score_batches import ScoreBatches
from tests.distributed.processes import run_on_mesh

_ROUNDS = 50


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Args:
        d_sae: features over all ranks.
        d_in: width of the activations.
        tokens: tokens of a batch.
        k: mean matches per token.
        steps: batches that are measured.
        warm_up: batches before them.
        loud: factor on the first rank's scores.
    """

    d_sae: int
    d_in: int
    tokens: int
    k: int
    steps: int
    warm_up: int
    loud: float


@dataclass(frozen=True)
class Cost:
    """One exchange of one batch on one rank."""

    seconds: float
    collectives: int
    bytes_received: int
    matches: int


def full_all_gather(held: Matches, budget: int, world: GroupCollective) -> Tensor:
    """One all-gather of each rank's `budget` largest scores."""
    padded = held.score.new_zeros(budget)
    padded[: len(held)] = held.score
    return held.score >= world.stack(padded).view(-1).topk(budget, sorted=False).values.min()


def two_round_histogram(held: Matches, budget: int, world: GroupCollective) -> Tensor:
    """Two all-reduces of histograms: of the upper 16 bits of the scores, then of the lower 16 in the cut's bin."""
    bits = held.score.view(torch.int32)
    upper = bits >> 16
    index, left = _bin_of(world.sum(torch.bincount(upper, minlength=1 << 15).int()), budget)
    lower = bits[upper == index] & 0xFFFF
    cut, _ = _bin_of(world.sum(torch.bincount(lower, minlength=1 << 16).int()), left)
    return bits >= (index << 16) + cut


def _bin_of(counts: Tensor, n: int) -> tuple[int, int]:
    at_least = counts.flip(0).cumsum(0).flip(0)
    index = int((at_least >= n).sum()) - 1
    return index, n - int(at_least[index] - counts[index])


def bisection(held: Matches, budget: int, world: GroupCollective) -> Tensor:
    """Fifty all-reduces of a count, after one of the largest score."""
    low, high = 0.0, float(world.max(held.score.max().reshape(1)))
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        count = int(world.sum((held.score >= middle).sum().reshape(1)))
        low, high = (middle, high) if count >= budget else (low, middle)
    return held.score >= low


METHODS: dict[str, Callable[[Matches, int, GroupCollective], Tensor]] = {
    "all-gather of each rank's `budget` largest": full_all_gather,
    "two-round histogram": two_round_histogram,
    f"bisection, {_ROUNDS} rounds": bisection,
}
OURS = "distsae: histogram around the forecast cut"


def measure(mesh: Mesh, setting: Setting) -> dict[str, list[Cost]]:
    """Runs all methods on the same batches; one rank's costs."""
    world, features = mesh.world, mesh.features(setting.d_sae)
    assert isinstance(world, GroupCollective)
    loud = setting.loud if world.rank == 0 else 1.0
    batches = ScoreBatches(setting.d_sae, setting.d_in, setting.tokens, features, loud)
    selector, budget = MutualSelector(setting.k), setting.k * setting.tokens
    placement = mesh.placement(setting.d_sae, setting.tokens)
    costs: dict[str, list[Cost]] = defaultdict(list)
    for step in range(setting.warm_up + setting.steps):
        alone = MutualSelector(setting.k)
        local_placement = Placement.solo(setting.d_sae)
        selector.start(placement, setting.tokens)
        alone.start(local_placement, setting.tokens)
        for first, pre_acts in batches.chunks(step):
            selector.offer(first, ExactScores(pre_acts))
            alone.offer(first, ExactScores(pre_acts))
        (held,) = settled([alone])
        assert held is not None

        def ours(step: int = step) -> int:
            (matches,) = settled([selector], world)
            if matches is None:
                (matches,) = select([selector], lambda: batches.chunks(step), placement, setting.tokens)
            return len(matches)

        runs: dict[str, Callable[[], int]] = {OURS: ours}
        for name, method in METHODS.items():
            runs[name] = lambda method=method, held=held: len(_those(held, method(held, budget, world)))
        for name, run in runs.items():
            world.sum(torch.zeros(1))  # all begin together
            before = time.perf_counter(), world.collectives, world.bytes_received
            matches = run()
            seconds = time.perf_counter() - before[0]
            cost = Cost(seconds, world.collectives - before[1], world.bytes_received - before[2], matches)
            if step >= setting.warm_up:
                costs[name].append(cost)
    return dict(costs)


def _those(held: Matches, keep: Tensor) -> Matches:
    token, feature, score = (part.masked_select(keep) for part in (held.token, held.feature, held.score))
    return Matches(token, feature, score)


def main() -> None:
    """Prints a table for two and for four ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d_sae", type=int, default=131072)
    parser.add_argument("--d_in", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--warm_up", type=int, default=4)
    parser.add_argument("--loud", type=float, default=1.0, help="factor on the scores of the first rank")
    setting = Setting(**vars(parser.parse_args()))
    budget = setting.k * setting.tokens
    for ranks in (2, 4):
        found = run_on_mesh(measure, (1, ranks), setting, seconds=3600)
        print(
            f"\n{ranks} ranks, d_sae {setting.d_sae}, {setting.tokens} tokens, k {setting.k}, {setting.steps} batches\n"
        )
        print("| method | collectives, median (most) | KB received | share of the all-gather | ms, median | matches |")
        print("|---|---|---|---|---|---|")
        whole = statistics.mean(cost.bytes_received for cost in found[0][next(iter(METHODS))])
        for name in [OURS, *METHODS]:
            costs = found[0][name]
            slowest = [max(rank[name][step].seconds for rank in found) for step in range(setting.steps)]
            counts = [cost.collectives for cost in costs]
            received = statistics.mean(cost.bytes_received for cost in costs)
            over = {sum(rank[name][step].matches for rank in found) - budget for step in range(setting.steps)}
            print(
                f"| {name} | {statistics.median(counts):g} ({max(counts)}) | {received / 1000:.1f} | "
                f"{received / whole:.1%} | {1000 * statistics.median(slowest):.1f} | "
                f"{'budget' if over == {0} else f'budget {min(over):+d} to {max(over):+d}'} |"
            )


if __name__ == "__main__":
    main()
