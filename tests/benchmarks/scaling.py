"""How the step of Mutual Choice scales with the number of ranks, measured on CPU (`distsae plan` has other machines).

Ranks are gloo processes of one thread each. Computing is given in processor time of the busiest rank, which does not
suffer when four of them share two cores; exchanges in calls, bytes and the wall time of the rank that waits least,
which does. There are four ways to grow: by feature ranks with `--d_sae` features each or over all, by data ranks with
`--batch_tokens` tokens each or over all.

    python -m tests.benchmarks.scaling                                # a synthetic store in a temporary folder
    python -m tests.benchmarks.scaling --store STORE --hook HOOK
    python -m tests.benchmarks.scaling --only exchange                # factors of gradients against matrices
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from distsae.store import Store
from tests.benchmarks.cost_model import Job, bytes_received, calls, most_selection_bytes, work
from tests.benchmarks.data_exchange import print_data_exchange
from tests.benchmarks.measured_step import PARTS, Summary, measure_steps, summary
from tests.benchmarks.metered_mesh import EXCHANGES
from tests.benchmarks.random_store import synthetic_store
from tests.distributed.processes import run_on_mesh

_TERMS = {"encode": ("product", "matched"), "rows": ("matched",), "update": ("weights", "summed")}
"""The work that each part's time is taken to be made of."""


def jobs(d_in: int, d_sae: int, tokens: int, k: float, most: int) -> dict[str, list[Job]]:
    """Returns the steps to measure, by how they grow; each way begins with one rank."""
    sizes = [1 << power for power in range(most.bit_length())]

    def job(width: int, batch: int, data: int = 1, feature: int = 1) -> Job:
        return Job(d_in=d_in, d_sae=width, tokens=batch, k=k, data=data, feature=feature)

    return {
        "one rank, for the fit": [job(d_sae, tokens), job(d_sae // 4, tokens), job(d_sae, tokens // 4)],
        f"feature ranks, {d_sae} features each": [job(d_sae * n, tokens, feature=n) for n in sizes],
        f"feature ranks, {d_sae} features over all": [job(d_sae, tokens, feature=n) for n in sizes],
        f"data ranks, {tokens} tokens each": [job(d_sae, tokens * n, data=n) for n in sizes],
        f"data ranks, {tokens} tokens over all": [job(d_sae, tokens, data=n) for n in sizes],
    }


def fit(found: Sequence[Summary]) -> dict[str, dict[str, float]]:
    """Returns, for each part of computing, the seconds of a unit of each of its terms; least relative squares."""
    rates = {}
    for part, terms in _TERMS.items():
        measured = np.array([one.parts[part] for one in found])
        amounts = np.array([[work(one.job)[term] for term in terms] for one in found])
        solved = np.linalg.lstsq(amounts / measured[:, None], np.ones(len(found)), rcond=None)[0]
        rates[part] = dict(zip(terms, solved.tolist(), strict=True))
    return rates


def expected_parts(job: Job, rates: dict[str, dict[str, float]]) -> dict[str, float]:
    """Returns the processor seconds of a rank, by part."""
    amounts = work(job)
    return {part: sum(rate * amounts[term] for term, rate in terms.items()) for part, terms in rates.items()}


def _measure(path: Path, hook: str, job: Job, steps: int, warm_up: int) -> Summary:
    found = run_on_mesh(measure_steps, (job.data, job.feature), job, str(path), hook, steps, warm_up, seconds=900)
    return summary(job, found)


def _print_measured(found: dict[str, list[Summary]]) -> None:
    rates = fit(next(iter(found.values())))
    print(
        "Rates fitted on one rank, seconds a unit:",
        {p: {t: f"{r:.2e}" for t, r in v.items()} for p, v in rates.items()},
    )
    print(
        "\n| mesh | tokens, features of a rank | CPU ms: encode, select | decode, dots | gradients, Adam | statistics "
        "| reading | exchanges | all, without reading | model, measured over fitted | ms a step, wall | passes |\n"
        + "|---" * 12
        + "|"
    )
    for way, rows in found.items():
        print(f"| *{way}* |" + " |" * 11)
        for row in rows:
            parts = [f"{1000 * row.parts[part]:.1f}" for part in PARTS] + [f"{1000 * row.exchange_processor:.1f}"]
            computing = sum(row.parts[part] for part in rates)
            ratio = computing / sum(expected_parts(row.job, rates).values())
            total = sum(row.parts.values()) - row.parts["reading"] + row.exchange_processor
            print(
                f"| {_shape(row.job)} | {row.job.own_tokens}, {row.job.own_features} | {' | '.join(parts)} | "
                f"{1000 * total:.1f} | {ratio:.2f} | {1000 * row.wall:.0f} | {row.passes} |"
            )
    print(
        "\n| mesh | tokens, features of a rank | "
        + " | ".join(f"{kind}: calls, KB, ms" for kind in EXCHANGES)
        + " | KB by formula but for selection |\n"
        + "|---" * (3 + len(EXCHANGES))
        + "|"
    )
    for row in [row for rows in found.values() for row in rows if row.job.ranks > 1]:
        formula = bytes_received(row.job, row.matches)
        cells = [
            f"{row.calls[kind]:g}, {row.received[kind] / 1000:.1f}, {1000 * row.seconds[kind]:.1f}"
            for kind in EXCHANGES
        ]
        kinds = [kind for kind in EXCHANGES if kind != "selection"]
        off = max(abs(row.received[kind] - formula[kind]) for kind in kinds)
        fits = row.received["selection"] <= most_selection_bytes(row.job) and calls(row.job) == row.calls
        print(
            f"| {_shape(row.job)} | {row.job.own_tokens}, {row.job.own_features} | {' | '.join(cells)} | "
            f"{', '.join(f'{formula[kind] / 1000:.1f}' for kind in kinds)}; most off {off:.0f} bytes"
            f"{'' if fits else '; other calls or more selection than expected'} |"
        )


def _shape(job: Job) -> str:
    return f"{job.data}x{job.feature}"


def main() -> None:
    """Prints what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("step", "exchange"), help="both without it")
    parser.add_argument("--store", type=Path, help="a sealed store; without it one is made of random numbers")
    parser.add_argument("--hook", help="hook to read; the first one without it")
    parser.add_argument("--d_in", type=int, default=768, help="of the synthetic store, and of the exchange")
    parser.add_argument("--d_sae", type=int, default=16384)
    parser.add_argument("--batch_tokens", type=int, default=1024)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--ranks", type=int, default=4, help="most of them; a power of two, at most 4")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warm_up", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="+", default=[2048, 8192, 16384, 32768, 65536])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 8192], help="of a rank, in the exchange")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    if given.only in (None, "step"):
        with tempfile.TemporaryDirectory() as folder:
            batches = given.steps + given.warm_up
            rows = max(given.ranks * given.batch_tokens * (batches + 1), 1 << 16)
            store = Store.open(given.store) if given.store else synthetic_store(Path(folder), rows, given.d_in)
            hook = given.hook or store.attributes.hooks[0]
            wanted = jobs(store.d_in(hook), given.d_sae, given.batch_tokens, given.k, given.ranks)
            path, done = given.store or Path(folder), dict[Job, Summary]()
            for job in [job for way in wanted.values() for job in way]:
                if job not in done:
                    done[job] = _measure(path, hook, job, given.steps, given.warm_up)
            _print_measured({way: [done[job] for job in rows] for way, rows in wanted.items()})
    if given.only in (None, "exchange"):
        print_data_exchange(given.widths, given.tokens, given.d_in, given.k, given.steps)


if __name__ == "__main__":
    main()
