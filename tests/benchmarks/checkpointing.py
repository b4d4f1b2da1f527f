"""What a checkpoint costs training, beside torch's own ways on the same state and beside what the machine can do.

    python -m tests.benchmarks.checkpointing --d_sae 131072
    python -m tests.benchmarks.checkpointing --d_sae 8192 --store STORE --folder FOLDER

One run of one process, Mutual Choice. The ways to save take turns between its steps, each in every round: some plain
steps, a save, and steps until it is done. What training waits for is measured, and by how much the steps that overlap
with the writing are longer than the plain ones of the same turn. Copying and writing the same bytes are measured in
every round too. Medians of the rounds; the first save, whose copies take fresh memory, is a line of its own. Processor
seconds are of all threads, and those beyond plain steps. Resuming is measured by `tests.benchmarks.resuming`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from distsae.store import Store
from distsae.training import CheckpointConfig, SizeConfig, TrainConfig
from distsae.training.run import Run
from tests.benchmarks.random_store import synthetic_store
from tests.benchmarks.stepped_run import Taken, begun, timed
from tests.benchmarks.ways_to_save import DcpAsync, Ours, Waiting, Way, dcp_save, limits, plain_tensors, torch_save

_PLAIN = 2
_D_IN = 768

_WAYS: dict[str, Callable[[Path], Way]] = {
    "distsae": partial(Ours, asynchronous=True),
    "distsae, thread at nice 10": partial(Ours, asynchronous=True, nice=10),
    "distsae, `asynchronous: false`": partial(Ours, asynchronous=False),
    "`torch.save`": partial(Waiting, save=torch_save, guards="nothing"),
    "DCP `save`": partial(Waiting, save=dcp_save, guards=DcpAsync.guards),
    "DCP `async_save`": DcpAsync,
}


@dataclass(frozen=True)
class Turn:
    """One save among steps.

    Args:
        plain: a step meanwhile undisturbed, medians.
        waited: for the save to begin.
        slower: of the steps that overlapped with it, together, over as many plain ones.
        overlapped: how many these were.
    """

    plain: Taken
    waited: Taken
    slower: Taken
    overlapped: int

    @property
    def wall(self) -> float:
        """Seconds that the save costs the run."""
        return self.waited.wall + self.slower.wall

    @property
    def processor(self) -> float:
        """Processor seconds of the save."""
        return self.waited.processor + self.slower.processor


def turn(way: Way, run: Run, step: Callable[[], Taken]) -> Turn:
    """Takes steps, saves, and takes steps until it is done and one more."""
    plain = [step() for _ in range(_PLAIN)]
    state = run.state.tensors()
    waited = timed(lambda: way.begin(run.done, state))
    overlapped = []
    while way.busy():
        overlapped.append(step())
    way.end()
    plain.append(step())
    usual = Taken(median(one.processor for one in plain), median(one.wall for one in plain))
    slower = Taken(
        sum(one.processor - usual.processor for one in overlapped), sum(one.wall - usual.wall for one in overlapped)
    )
    return Turn(usual, waited, slower, len(overlapped))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d_sae", type=int, default=131072)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", help="sealed store of activations; by default random ones of width 768")
    parser.add_argument("--folder", help="on the disk to write to; by default a temporary one")
    parser.add_argument("--only", nargs="+", choices=list(_WAYS), default=list(_WAYS), metavar="WAY")
    given = parser.parse_args()
    os.environ["ACCELERATE_USE_CPU"] = "true"
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # DCP, of one process
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        if given.store is None:
            synthetic_store(folder / "store", 1 << 16, _D_IN, 1 << 15)
        store = Store.open(given.store or folder / "store")
        config = TrainConfig(
            store=str(store.path),
            out=str(folder / "run"),
            hook=store.attributes.hooks[0],
            steps=1 << 20,
            batch_tokens=given.tokens,
            sae=SizeConfig(d_sae=given.d_sae),
            checkpoint=CheckpointConfig(every=1 << 20),
            wandb="off",
        )
        with ExitStack() as stack:
            run, step = stack.enter_context(begun(config))
            ways = {way: _WAYS[way](folder / str(number)) for number, way in enumerate(given.only)}
            for way in ways.values():
                stack.callback(way.close)
            _compare(ways, run, step, folder, given.rounds)


def _compare(ways: dict[str, Way], run: Run, step: Callable[[], Taken], folder: Path, rounds: int) -> None:
    for _ in range(3):
        step()
    first = {name: turn(way, run, step) for name, way in ways.items() if name == next(iter(_WAYS))}
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    kept, floors = {}, []
    for number in range(rounds):
        floors.append(limits(run.state.tensors(), folder, kept))
        for name, way in ways.items():
            turns[name].append(turn(way, run, step))
            print(f"round {number + 1}, {name}: {turns[name][-1]}", file=sys.stderr, flush=True)
    config = run.config
    size = sum(tensor.nbytes for tensor in plain_tensors(run.state.tensors()).values())
    plain = median(one.plain.wall for every in turns.values() for one in every)
    busy = median(one.plain.processor for every in turns.values() for one in every)
    print(
        f"d_sae {config.sae.d_sae}, d_in {len(run.state.mean)}, {config.batch_tokens} tokens: a step takes "
        f"{plain:.3f} s, {busy:.3f} CPU s; the state has {size / 1e9:.3f} GB; {rounds} rounds\n"
    )
    print(
        "| way | waits, s | later steps slower by, s | steps meanwhile | together, in steps | of a run with `every` "
        "1000 | 100 | CPU s | guards |\n" + "|---" * 9 + "|"
    )
    for name, every in turns.items():
        _row(name, every, ways[name].guards)
    for name, one in first.items():
        _row(f"{name}: the first", [one], "")
    print("\n| the same bytes | s | GB/s |\n|---|---|---|")
    for name in floors[0]:
        seconds = median(floor[name] for floor in floors)
        print(f"| {name} | {seconds:.3f} | {size / 1e9 / seconds:.2f} |")


def _row(name: str, turns: list[Turn], guards: str) -> None:
    steps = median(one.wall / one.plain.wall for one in turns)
    cells = [
        f"{median(one.waited.wall for one in turns):.3f}",
        f"{median(one.slower.wall for one in turns):.3f}",
        f"{median(one.overlapped for one in turns):.0f}",
        f"{steps:.2f}",
        f"{steps / 1000:.2%}",
        f"{steps / 100:.2%}",
        f"{median(one.processor for one in turns):.2f}",
        guards,
    ]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
