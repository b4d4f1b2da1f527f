"""What a wide dictionary's quotas and underused features cost: by sorting all features on every rank, and as they do.

Sorting is how it was done at first: every rank gathers all densities and sorts them, and keeps and sorts the credit of
all features. Densities are Poisson counts of a Zipf law over a million tokens, in random order.

    python -m tests.benchmarks.quotas                     # 1 and 2 ranks, d_sae 2^20 and 2^23, 4096 tokens, k 32
    python -m tests.benchmarks.quotas --log2_d_sae 16     # quicker
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from distsae.allocation import QuotaCredit, fit_zipf, zipf_quotas
from distsae.losses import FiringStatistics, Underused
from distsae.parallel import GroupCollective, Mesh
from tests.distributed.processes import run_on_mesh

_TOKENS = 4096
_K = 32
_WINDOW = 1_000_000
_ROUNDS, _WARM_UP = 5, 3


class SortedCredit:
    """Pays the largest remainders of all features, found by a sort on every rank."""

    def __init__(self, d_sae: int) -> None:
        self.quota_per_token = zipf_quotas(d_sae, _K, 1.0, d_sae / 64)
        self.credit = torch.zeros_like(self.quota_per_token)

    def pay(self) -> None:
        self.credit += self.quota_per_token * _TOKENS
        whole = self.credit.floor().clamp(0, _TOKENS).long()
        order = (self.credit - whole).sort(descending=True, stable=True).indices
        whole[order[: _K * _TOKENS - int(whole.sum())]] += 1
        self.credit -= whole


def measure_by_sorting(firing: FiringStatistics, mesh: Mesh) -> None:
    """Gathers the densities, sorts them, and compares each with the curve at its rank."""
    density = torch.cat(mesh.feature.gather(firing.density()))
    dead = torch.cat(mesh.feature.gather(firing.dead().to(torch.uint8))).bool()
    ranked = density.sort(descending=True, stable=True)
    fit = fit_zipf(density)
    assert fit is not None
    expected = torch.empty_like(density)
    expected[ranked.indices] = fit.density(torch.arange(1, len(density) + 1))
    under = (density < 0.1 * expected) | dead
    assert [float(mask.double().mean()) for mask in (dead, under)]


def cost(work: Callable[[], object], mesh: Mesh) -> tuple[float, int, float]:
    """Returns median seconds, collectives and bytes received of one call."""
    for _ in range(_WARM_UP):
        work()
    seconds = []
    before = _traffic(mesh)
    for _ in range(_ROUNDS):
        mesh.world.sum(torch.zeros(1))  # all ranks begin together
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    collectives, received = (now - then for now, then in zip(_traffic(mesh), before, strict=True))
    return statistics.median(seconds), collectives // _ROUNDS, received / _ROUNDS


def _traffic(mesh: Mesh) -> tuple[int, int]:
    group = mesh.feature
    return (group.collectives, group.bytes_received) if isinstance(group, GroupCollective) else (0, 0)


def measure(mesh: Mesh, d_sae: int) -> list[tuple[float, int, float]]:
    """Measures each way of doing each thing, on this rank."""
    features = mesh.features(d_sae)
    generator = torch.Generator().manual_seed(0)
    law = (torch.randperm(d_sae, generator=generator) + 1 + d_sae / 64).double() ** -1.0
    counts = torch.poisson(law * (_K * _WINDOW / law.sum()), generator=generator)
    firing = FiringStatistics(len(features), _WINDOW, _WINDOW)
    firing.matches.copy_(counts[features.start : features.stop])
    firing.tokens.fill_(_WINDOW)
    quotas = (law * (_K / law.sum()))[features.start : features.stop].clone()
    sorting, ours = SortedCredit(d_sae), QuotaCredit(quotas, _K, mesh.feature)
    return [
        cost(sorting.pay, mesh),
        cost(lambda: ours.pay(_TOKENS), mesh),
        cost(lambda: measure_by_sorting(firing, mesh), mesh),
        cost(lambda: Underused.measure(firing, "aux_zipf", 0.1, mesh.feature), mesh),
    ]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log2_d_sae", type=int, nargs="+", default=[20, 23])
    torch.set_num_threads(1)
    print("| d_sae | ranks | what | by sorting: ms | collectives | KB | ours: ms | collectives | KB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for power in parser.parse_args().log2_d_sae:
        for ranks in (1, 2):
            found = run_on_mesh(measure, (1, ranks), 2**power, seconds=3600)
            slowest = [max(costs) for costs in zip(*found, strict=True)]
            for place, what in enumerate(("one payment of quotas", "underused features")):
                cells = [
                    f"{1000 * seconds:.0f} | {collectives} | {received / 1000:,.0f}"
                    for seconds, collectives, received in slowest[2 * place : 2 * place + 2]
                ]
                print(f"| 2^{power} | {ranks} | {what} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
