"""The update of the plain engine on 1, 2 and 4 data ranks, with Adam's moments on every rank and divided over them.

Both ways take the same gradients, turn by turn, on shards of their own, and must end with the same weights and moments
bit for bit. Bytes are those that `GroupCollective` counts as received by a rank: the factors of the gradients, which
both ways exchange, and the new rows. Processor seconds are those of rank 0, of all its threads: in the whole update,
and in it without the exchanges. Moments are the bytes of the tensors that rank 0 holds.

    python -m tests.benchmarks.divided_moments                    # d_sae 32768, d_in 768, 2048 tokens
    python -m tests.benchmarks.divided_moments --states fp32 bf16 int8
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeVar, get_args

import torch
from torch import Tensor

from distsae.allocation import Matches
from distsae.checkpoint import Shard
from distsae.collective import Collective
from distsae.kernels import CPU, MomentsName
from distsae.model import FeatureShard
from distsae.parallel import GroupCollective, Mesh
from distsae.training import OptimizerConfig, PlainEngine
from distsae.training.step.gradients import Gradients, Term
from tests.distributed.processes import run_on_mesh

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class UpdateSizes:
    """Sizes of an update.

    Args:
        d_in: width of the activations.
        d_sae: number of features.
        tokens: tokens of the global batch.
        k: mean matches per token.
        state: storage of Adam's moments.
        rounds: updates that are measured, each way.
    """

    d_in: int
    d_sae: int
    tokens: int
    k: int
    state: MomentsName
    rounds: int


@dataclass(frozen=True)
class UpdateCosts:
    """What the updates of one way took on a rank, medians.

    Args:
        moments: bytes of Adam's moments.
        factors: bytes received in the exchange of the gradients.
        rows: bytes received in all other exchanges on the data axis.
        collectives: collectives on the data axis.
        wall: seconds.
        processor: processor seconds.
        processor_alone: processor seconds without those in exchanges on the data axis.
    """

    moments: int
    factors: int
    rows: int
    collectives: int
    wall: float
    processor: float
    processor_alone: float


class _TimedData:
    """The data axis, with the processor seconds that it takes."""

    def __init__(self, data: Collective) -> None:
        self._data = data
        self.rank, self.size = data.rank, data.size
        self.processor = 0.0

    def sum(self, tensor: Tensor) -> Tensor:
        return self._data.sum(tensor)

    def max(self, tensor: Tensor) -> Tensor:
        return self._data.max(tensor)

    def stack(self, tensor: Tensor) -> Tensor:
        begun = time.process_time()
        found = self._data.stack(tensor)
        self.processor += time.process_time() - begun
        return found

    def gather(self, tensor: Tensor) -> list[Tensor]:
        begun = time.process_time()
        found = self._data.gather(tensor)
        self.processor += time.process_time() - begun
        return found

    @property
    def counted(self) -> tuple[int, int]:
        """Bytes received and collectives so far."""
        data = self._data
        return (data.bytes_received, data.collectives) if isinstance(data, GroupCollective) else (0, 0)


def _gradients(sizes: UpdateSizes, data: Collective, features: int, step: int) -> Gradients:
    """Returns the gradients from this data rank's tokens: those of a batch with `k` matches per token and no aux."""
    own_tokens = sizes.tokens // data.size
    seeded = torch.Generator().manual_seed(1000 * step)
    keys = torch.randint(features * sizes.tokens, (sizes.k * sizes.tokens,), generator=seeded).sort().values
    score, dots = torch.rand(2, len(keys), generator=seeded).unbind()
    centred, g = torch.randn(2, sizes.tokens, sizes.d_in, generator=seeded).unbind()
    token = keys % sizes.tokens
    own = token // own_tokens == data.rank
    matches = Matches(token[own] - data.rank * own_tokens, (keys // sizes.tokens)[own], score[own])
    rows = slice(data.rank * own_tokens, (data.rank + 1) * own_tokens)
    return Gradients((Term(matches, dots[own], g[rows]),), centred[rows], features, CPU)


def measure(mesh: Mesh, sizes: UpdateSizes) -> tuple[dict[bool, UpdateCosts], dict[str, Tensor]]:
    """Updates by turns; returns the costs of each way on this rank, and the results, which must be the same."""
    ways: dict[bool, tuple[FeatureShard, PlainEngine]] = {}
    data = _TimedData(mesh.data)
    for divide in (False, True):
        shard = FeatureShard(sizes.d_in, sizes.d_sae, range(sizes.d_sae), torch.zeros(sizes.d_in), 0, prefilter=True)
        config = OptimizerConfig(state=sizes.state, divide_moments=divide)
        ways[divide] = shard, PlainEngine(shard, replace(mesh, data=data), config)
    taken: dict[bool, list[tuple[int, int, int, float, float, float]]] = {False: [], True: []}
    for step in range(sizes.rounds + 1):  # the first round warms up
        gradients = _gradients(sizes, mesh.data, sizes.d_sae, step)
        before, _ = data.counted
        gradients.gathered(data)
        factors = data.counted[0] - before
        for divide, (_, engine) in ways.items():
            mesh.data.sum(torch.zeros(1))  # all begin together
            received, calls = data.counted
            exchanging, processor, wall = data.processor, time.process_time(), time.perf_counter()
            engine.update(gradients, 1e-3)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            alone = processor - (data.processor - exchanging)
            if step:
                now = data.counted
                taken[divide].append((factors, now[0] - received - factors, now[1] - calls, wall, processor, alone))
    results = {divide: _results(*way, mesh.data) for divide, way in ways.items()}
    for name, tensor in results[False].items():
        assert torch.equal(tensor, results[True][name]), name
    costs = {}
    for divide, (_, engine) in ways.items():
        medians = [median(one) for one in zip(*taken[divide], strict=True)]
        factors, rows, calls = (round(one) for one in medians[:3])
        costs[divide] = UpdateCosts(_moments_bytes(engine), factors, rows, calls, *medians[3:])
    return costs, results[False]


def _moments_bytes(engine: PlainEngine) -> int:
    held = (value.local if isinstance(value, Shard) else value for value in engine.tensors().values())
    return sum(tensor.nbytes for tensor in held if isinstance(tensor, Tensor))


def _results(shard: FeatureShard, engine: PlainEngine, data: Collective) -> dict[str, Tensor]:
    """Returns copies of all weights and moments. Collective."""
    found = {name: parameter.detach().clone() for name, parameter in shard.named_parameters()}
    for name, value in engine.tensors().items():
        local = value.local if isinstance(value, Shard) else value
        assert isinstance(local, Tensor)
        found[name] = torch.cat(data.gather(local)) if isinstance(value, Shard) else local.clone()
    return found


def main() -> None:
    """Prints a table for 1, 2 and 4 data ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d_in", type=int, default=768)
    parser.add_argument("--d_sae", type=int, default=32768)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--states", nargs="+", choices=get_args(MomentsName), default=["fp32"])
    given = parser.parse_args()
    print(
        f"d_sae {given.d_sae}, d_in {given.d_in}, {given.tokens} tokens, k {given.k}; {given.rounds} updates by turns, "
        f"medians of rank 0; {os.cpu_count()} cores\n\n"
        "| data ranks | moments | divided | moments, MB | factors, MB | rows, MB | collectives | CPU ms "
        "| of it not in exchanges | wall ms | equal to 1 rank |\n" + "|---" * 11 + "|"
    )
    for state in given.states:
        expected: dict[str, Tensor] = {}
        for ranks in given.ranks:
            sizes = UpdateSizes(given.d_in, given.d_sae, given.tokens, given.k, state, given.rounds)
            found = run_on_mesh(measure, (ranks, 1), sizes, seconds=3600)
            expected = expected or found[0][1]
            equal = all(torch.equal(results[name], tensor) for _, results in found for name, tensor in expected.items())
            for divide, costs in found[0][0].items():
                cells = [f"{size / 1e6:.1f}" for size in (costs.moments, costs.factors, costs.rows)]
                cells += [str(costs.collectives)]
                cells += [f"{1000 * seconds:.0f}" for seconds in (costs.processor, costs.processor_alone, costs.wall)]
                print(
                    f"| {ranks} | {state} | {'yes' if divide else 'no'} | {' | '.join(cells)} | "
                    f"{'bit for bit' if equal else 'NO'} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
