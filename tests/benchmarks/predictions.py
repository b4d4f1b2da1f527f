"""Tables of what the cost model expects on machines of eight accelerators: the best mesh, its parts, its memory."""

from __future__ import annotations

import dataclasses

from tests.benchmarks.cost_model import Cost, Job, Machine, bytes_received, cost, dense_bytes, memory

__all__ = ["best_mesh", "efficiency", "meshes", "print_predictions"]


def meshes(job: Job, ranks: int) -> list[Job]:
    """Returns the job on every mesh of powers of two, the tallest data axis last."""
    shapes = [(data, ranks // data) for data in (1 << power for power in range(ranks.bit_length()))]
    return [
        dataclasses.replace(job, data=data, feature=feature)
        for data, feature in shapes
        if data * feature == ranks and job.tokens % data == 0 and feature <= job.d_sae and data <= 64
    ]


def efficiency(job: Job, machine: Machine) -> float:
    """Returns the time of one accelerator, had it the memory, over that of all of them together."""
    alone = cost(dataclasses.replace(job, data=1, feature=1), machine)
    return alone.total / (job.ranks * cost(job, machine).total)


def best_mesh(job: Job, ranks: int, machine: Machine, gigabytes: float) -> Job | None:
    """Returns the fastest mesh among those that fit in memory."""
    fitting = [on for on in meshes(job, ranks) if sum(memory(on).values()) <= gigabytes * 1e9]
    return min(fitting, key=lambda on: cost(on, machine).total, default=None)


def _parts(on: Job, found: Cost, machine: Machine) -> str:
    exchanges = found.exchanges
    rest = sum(exchanges[name] for name in ("selection", "firings", "numbers"))
    times = (
        found.encode,
        found.rows,
        found.update,
        exchanges["reconstruction"],
        exchanges["factors"],
        rest,
        found.reading,
    )
    return (
        " | ".join(f"{1000 * value:.2f}" for value in times)
        + f" | **{1000 * found.total:.1f}** | {on.tokens / found.total / 1e6:.2f} | {efficiency(on, machine):.0%} | "
        + f"{sum(memory(on).values()) / 1e9:.0f}"
    )


_PARTS = (
    "encode | matched rows | update | all-reduce of `x_hat` | factors | other exchanges | reading, beside | step, ms | "
    "M tokens/s | efficiency | GB a GPU"
)


def print_predictions(job: Job, powers: list[int], gpus: list[int], machine: Machine, gigabytes: float) -> None:
    """Prints the tables.

    Args:
        job: sizes of a step; its width and mesh are replaced.
        powers: widths as powers of two.
        gpus: numbers of accelerators.
        machine: rates.
        gigabytes: memory of an accelerator.
    """
    print(f"\nAssumed: {machine}; {gigabytes:g} GB an accelerator. Not measured.\n")
    print(f"Best mesh, d_in {job.d_in}, {job.tokens} tokens a step over all, k {job.k:g}; times in ms\n")
    print(f"| `d_sae` | GPUs | mesh | {_PARTS} |\n" + "|---" * 14 + "|")
    for power in powers:
        wide = dataclasses.replace(job, d_sae=1 << power)
        for ranks in gpus:
            on = best_mesh(wide, ranks, machine, gigabytes)
            if on is None:
                least = min(sum(memory(one).values()) for one in meshes(wide, ranks))
                print(f"| 2^{power} | {ranks} | needs {least / 1e9:.0f} GB a GPU |" + " |" * 11)
            else:
                print(f"| 2^{power} | {ranks} | {on.data}x{on.feature} | {_parts(on, cost(on, machine), machine)} |")
    middle, some = powers[len(powers) // 2], gpus[len(gpus) // 2]
    print(f"\nAll meshes of {some} GPUs, `d_sae` 2^{middle}\n\n| mesh | {_PARTS} |\n" + "|---" * 12 + "|")
    for on in meshes(dataclasses.replace(job, d_sae=1 << middle), some):
        print(f"| {on.data}x{on.feature} | {_parts(on, cost(on, machine), machine)} |")
    own = max(job.tokens // 64, 1)
    print(
        f"\nThe data axis, {own} tokens a rank, feature axis of {machine.size}; MB received by a rank\n\n"
        "| `d_sae` | data ranks | tokens over all | factors, MB | matrices, MB | step with factors, ms | "
        "with matrices, ms | fewer bytes |\n" + "|---" * 8 + "|"
    )
    for power in powers[:3]:
        for data in (2, 8, 64):
            on = dataclasses.replace(job, d_sae=1 << power, tokens=own * data, data=data, feature=machine.size)
            sent = bytes_received(on)["factors"], dense_bytes(on)
            times = [1000 * cost(on, machine, dense=dense).total for dense in (False, True)]
            print(
                f"| 2^{power} | {data} | {on.tokens} | {sent[0] / 1e6:.0f} | {sent[1] / 1e6:.0f} | {times[0]:.1f} | "
                f"{times[1]:.1f} | {'factors' if sent[0] < sent[1] else 'matrices'} |"
            )
