"""Whether the time of a step stays what it is: with more units, with longer training, with more logging; and a profile.

Whole training steps, each with the reading of a batch, in one process and one thread; the runs take turns step by step,
and ratios are those of sums over the same steps. What a step took is processor time of all threads, so that others on
the machine matter little. Beside it stand the parts of a step that go over all features, by width, and the operations
of one wide step as torch's profiler counts them.

    python -m tests.benchmarks.steadiness --steps 400
    python -m tests.benchmarks.steadiness --only profile --d_in 768 --d_sae 32768 --tokens 2048
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from distsae.allocation import MutualSelector
from distsae.collective import Solo
from distsae.losses import Concentration, FiringStatistics, Underused
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import CheckpointConfig, SizeConfig, TrainConfig
from distsae.training.thresholds import ThresholdTracker
from tests.benchmarks.random_store import synthetic_store
from tests.benchmarks.stepped_run import Taken, stepped

_UNITS = (4, 40, 400)
_ROWS_OF_A_SMALLEST_UNIT = 64 * 127  # a chunk, so that chunks are as long in all stores
_WARM_UP = 20
_CONTESTANTS: dict[str, tuple[int, dict[str, Any]]] = {
    f"{_UNITS[0]} units, `log_every` 100, no wandb": (_UNITS[0], {}),
    "the same again: what turns alone make of it": (_UNITS[0], {}),
    f"{_UNITS[1]} units": (_UNITS[1], {}),
    f"{_UNITS[2]} units": (_UNITS[2], {}),
    "`log_every` 1": (_UNITS[0], {"log_every": 1}),
    "`log_every` 1, wandb offline": (_UNITS[0], {"log_every": 1, "wandb": "offline"}),
}


def print_runs(folder: Path, steps: int, d_in: int, d_sae: int, tokens: int) -> None:
    """Prints what the steps of each run took, over those of the first, and late ones over early ones."""
    rows = _UNITS[-1] * _ROWS_OF_A_SMALLEST_UNIT
    for units in _UNITS:
        synthetic_store(folder / str(units), rows, d_in, rows // units)
    taken: dict[str, list[Taken]] = {name: [] for name in _CONTESTANTS}
    with ExitStack() as stack:
        turns = {}
        for number, (name, (units, options)) in enumerate(_CONTESTANTS.items()):
            config = _config(folder / str(units), folder / f"run-{number}", steps + 1, d_sae, tokens, **options)
            turns[name] = stack.enter_context(stepped(config))
        for _ in range(steps):
            for name, step in turns.items():
                taken[name].append(step())
    print(
        f"\n{rows:,} rows of width {d_in}, {tokens} tokens a step, `d_sae` {d_sae}, no auxiliary loss; steps "
        f"{_WARM_UP + 1} to {steps} of each run by turns\n\n"
        "| run | CPU ms a step: mean | median | most | mean over the first run's | last quarter over the first: mean "
        "| median | ms, median |\n" + "|---" * 8 + "|"
    )
    first = None
    for name, every in taken.items():
        busy = [one.processor for one in every[_WARM_UP:]]
        first, quarter = first or statistics.mean(busy), len(busy) // 4
        late, early = busy[-quarter:], busy[:quarter]
        print(
            f"| {name} | {1000 * statistics.mean(busy):.2f} | {1000 * statistics.median(busy):.2f} | "
            f"{1000 * max(busy):.1f} | {statistics.mean(busy) / first:.3f} | "
            f"{statistics.mean(late) / statistics.mean(early):.3f} | "
            f"{statistics.median(late) / statistics.median(early):.3f} | "
            f"{1000 * statistics.median(one.wall for one in every[_WARM_UP:]):.1f} |"
        )


_PARTS = (
    "`FiringStatistics.update`",
    "`ThresholdTracker.update`",
    "`Underused.measure`, every 10th",
    "`Concentration.measure`, when logged",
    "`ThresholdTracker.mean`, when logged",
)


def print_parts(widths: list[int], tokens: int, k: int, rounds: int) -> None:
    """Prints the processor time of what goes over all features and not over all weights."""
    print(
        f"\nParts of a step that go over all features, one rank, {tokens} tokens, k {k}, medians of {rounds}: CPU ms, "
        f"and ns a feature\n\n| `d_sae` | {' | '.join(_PARTS)} |\n" + "|---" * (1 + len(_PARTS)) + "|"
    )
    for width in widths:
        times = [_processor(part, rounds) for part in _parts(width, tokens, k)]
        cells = [f"{1000 * seconds:.2f}, {1e9 * seconds / width:.1f}" for seconds in times]
        print(f"| {width} | " + " | ".join(cells) + " |", flush=True)


def _parts(width: int, tokens: int, k: int) -> list[Callable[[], object]]:
    """Returns a call of each of `_PARTS`, on statistics that a fit is trusted on."""
    firings = FiringStatistics(width, 10**6, 10**6)
    tracker = ThresholdTracker(width)
    selector = MutualSelector(k)
    selector.cut = 1.0
    mesh, device = build_mesh(MeshConfig(), 1, "cpu"), torch.device("cpu")
    popularity = (torch.arange(width, dtype=torch.float64) + 10) ** -1
    share = popularity.cumsum(0) / popularity.sum()
    found = torch.searchsorted(share, torch.rand(tokens * k, dtype=torch.float64)).clamp_(max=width - 1)
    while float(firings.tokens) < 3e5:
        firings.update(found, 16 * tokens, Solo())
    return [
        lambda: firings.update(found, tokens, Solo()),
        lambda: tracker.update(selector),
        lambda: Underused.measure(firings, "aux_zipf", 0.1, Solo()),
        lambda: Concentration.measure(firings, Solo()),
        lambda: tracker.mean(mesh, device),
    ]


def _processor(call: Callable[[], object], rounds: int) -> float:
    call()
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        call()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def print_profile(folder: Path, d_in: int, d_sae: int, tokens: int, rows: int) -> None:
    """Prints the operations of a step that took most processor time by themselves."""
    warm_up, steps = 3, 3
    synthetic_store(folder / "wide", max(tokens * (warm_up + steps + 2), 1 << 15), d_in)
    with stepped(_config(folder / "wide", folder / "run-wide", 10**6, d_sae, tokens)) as step:
        for _ in range(warm_up):
            step()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            taken = [step() for _ in range(steps)]
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    inside = sum(event.self_cpu_time_total for event in events) / 1000 / steps
    busy, wall = (1000 * statistics.mean(times) for times in zip(*((t.processor, t.wall) for t in taken), strict=True))
    print(
        f"\nProfile of a step, d_in {d_in}, `d_sae` {d_sae}, {tokens} tokens: {busy:.0f} CPU ms, {wall:.0f} ms under "
        f"the profiler; its operations, without those that they call, sum to {inside:.0f} ms of wall time\n\n"
        "| operation | calls | ms | share |\n|---|---|---|---|"
    )
    for event in events[:rows]:
        own = event.self_cpu_time_total / 1000 / steps
        print(f"| `{event.key}` | {event.count / steps:g} | {own:.1f} | {own / inside:.1%} |")


def _config(store: Path, out: Path, steps: int, d_sae: int, tokens: int, **options: Any) -> TrainConfig:
    settings: dict[str, Any] = {"log_every": 100, "wandb": "off", "aux": "none"} | options
    return TrainConfig(
        store=str(store),
        out=str(out),
        hook="random",
        steps=steps,
        batch_tokens=tokens,
        sae=SizeConfig(d_sae=d_sae),
        checkpoint=CheckpointConfig(every=10**9),
        **settings,
    )


def main() -> None:
    """Prints what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("runs", "parts", "profile"), help="all three without it")
    parser.add_argument("--steps", type=int, default=400, help="of each run that takes turns")
    parser.add_argument("--small", type=int, nargs=3, default=[16, 1024, 1024], metavar=("D_IN", "D_SAE", "TOKENS"))
    parser.add_argument("--widths", type=int, nargs="+", default=[1 << 17, 1 << 20, 1 << 22])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--d_in", type=int, default=768, help="of the profile")
    parser.add_argument("--d_sae", type=int, default=32768, help="of the profile")
    parser.add_argument("--tokens", type=int, default=2048, help="of the profile and the parts")
    parser.add_argument("--rows", type=int, default=14, help="of the profile")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        if given.only in (None, "runs"):
            print_runs(Path(folder), given.steps, *given.small)
        if given.only in (None, "parts"):
            print_parts(given.widths, given.tokens, 32, given.rounds)
        if given.only in (None, "profile"):
            print_profile(Path(folder), given.d_in, given.d_sae, given.tokens, given.rows)


if __name__ == "__main__":
    main()
