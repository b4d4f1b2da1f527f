"""What it costs to keep Adam's moments in fewer bits: FVU, memory, and the time of the update pass.

    python -m tests.benchmarks.optimizer_state                  # a synthetic mixture
    python -m tests.benchmarks.optimizer_state --store STORE    # activations of a model

One run a state, from the same weights on the same batches; they take turns step by step, so that ratios of times come
from one interleaved run. Mutual Choice without auxiliary loss. FVU is over the last tenth of the steps; times are CPU
time of one thread, medians of the last half. Memory is that of the moments alone; the update works on a block of rows
besides.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import get_args

import torch
from torch import Tensor

from distsae.allocation import MutualSelector
from distsae.batches import Batch, BatchReader
from distsae.kernels import MomentsName
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.store import Store
from distsae.training import OptimizerConfig, PlainEngine, Selectors, forward_backward
from tests.benchmarks.peers.problem import activations

_BATCHES = 64
"""Of the mixture; later steps see them again."""

MESH = build_mesh(MeshConfig(), 1, "cpu")


class Contestant:
    """A run with one way to keep the moments."""

    def __init__(self, state: MomentsName, mean: Tensor, given: argparse.Namespace) -> None:
        self._config = OptimizerConfig(state=state, lr=given.lr or "auto")
        self._given, self._mean = given, mean
        self._shard = FeatureShard(len(mean), given.d_sae, range(given.d_sae), mean, seed=given.seed)
        self._engine = PlainEngine(self._shard, MESH, self._config, given.seed)
        self._selector = MutualSelector(given.k)
        self.rest: list[float] = []
        self.seconds: list[float] = []
        self.fvu: list[float] = []

    @property
    def mib(self) -> float:
        """Memory of the moments."""
        return sum(tensor.nbytes for tensor in self._engine.tensors().values()) / (1 << 20)

    def step(self, step: int, x: Tensor, variance: float) -> None:
        given = self._given
        began = time.thread_time()
        outcome = forward_backward(self._shard, x, MESH, Selectors(self._selector), self._mean, variance, 0.0)
        rate = self._config.rate(step, given.steps, given.d_sae)
        middle = time.thread_time()
        self._engine.update(outcome.gradients, rate)
        self.seconds.append(time.thread_time() - middle)
        self.rest.append(middle - began)
        self.fvu.append(outcome.squared_error / outcome.energy)


def main() -> None:
    """Prints a table, a line a state."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="sealed store of activations")
    parser.add_argument("--hook", help="of the store; its first by default")
    parser.add_argument("--d_sae", type=int, default=4096)
    parser.add_argument("--d_in", type=int, default=256, help="of the mixture")
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with ExitStack() as open_files:
        batch, mean, variance = _stored(given, open_files) if given.store else _mixture(given)
        runs = {state: Contestant(state, mean, given) for state in get_args(MomentsName)}
        for step in range(given.steps):
            x = batch(step)
            for run in runs.values():
                run.step(step, x, variance)
    print(f"d_sae {given.d_sae}, d_in {len(mean)}, {given.tokens} tokens, k {given.k}, {given.steps} steps; ", end="")
    rest = statistics.median(runs["fp32"].rest[given.steps // 2 :])
    print(f"a step takes {1000 * rest:.0f} ms besides the update\n")
    print("| state | FVU | to fp32's | MiB | ms an update | to fp32's |\n|---|---|---|---|---|---|")
    last, half = max(given.steps // 10, 1), given.steps // 2
    whole = runs["fp32"]
    for state, run in runs.items():
        fvu, best = (statistics.mean(each.fvu[-last:]) for each in (run, whole))
        ratio = statistics.median(a / b for a, b in zip(run.seconds[half:], whole.seconds[half:], strict=True))
        milliseconds = 1000 * statistics.median(run.seconds[half:])
        print(f"| {state} | {fvu:.4f} | {fvu / best - 1:+.2%} | {run.mib:.1f} | {milliseconds:.1f} | {ratio:.2f} |")


def _mixture(given: argparse.Namespace) -> tuple[Callable[[int], Tensor], Tensor, float]:
    """Returns batches by step, their mean and their variance."""
    found = torch.from_numpy(activations(min(given.steps, _BATCHES), given.tokens, given.d_in, given.seed))
    rows = found.flatten(0, 1)
    variance = float((rows - rows.mean(0)).square().sum(1).mean())
    return lambda step: found[step % len(found)], rows.mean(0), variance


def _stored(given: argparse.Namespace, open_files: ExitStack) -> tuple[Callable[[int], Batch], Tensor, float]:
    store = Store.open(given.store)
    hook = given.hook or store.attributes.hooks[0]
    reader = BatchReader(store, hook, given.tokens, given.seed, 0, 1, "scale")
    open_files.callback(reader.close)
    sealed = store.statistics(hook)
    return (
        reader.batch,
        reader.normalisation.apply(sealed.mean.clone()),
        sealed.variance * reader.normalisation.scale**2,
    )


if __name__ == "__main__":
    main()
