"""What data ranks exchange: the factors of the gradients, or the matrices themselves; bytes and time, by turns.

Both ways begin with the same matches and vectors of a step and end when a rank has gone over the rows of the whole
batch's gradients once. With factors, these are gathered and all matches' rows are summed block by block; with
matrices, the rows of own matches are summed into `W_enc.grad` and `W_dec.grad`, which an all-reduce then sums.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import mean, median

import torch

from distsae.allocation import Matches
from distsae.kernels import CPU
from distsae.parallel import GroupCollective, Mesh
from distsae.training.step.gradients import Gradients, Term
from tests.benchmarks.cost_model import Job, bytes_received, dense_bytes
from tests.distributed.processes import run_on_mesh

__all__ = ["print_data_exchange"]

_BLOCK = 256


@dataclass(frozen=True)
class _Taken:
    seconds: float
    processor: float
    received: int


def _measure(mesh: Mesh, job: Job, rounds: int) -> tuple[list[_Taken], list[_Taken], int]:
    """Takes turns; returns what factors took, what matrices took, and this rank's matches."""
    data, features = mesh.data, job.own_features
    assert isinstance(data, GroupCollective)
    seeded = torch.Generator().manual_seed(data.rank)
    matches = round(job.own_matches)
    keys = torch.randint(features * job.own_tokens, (matches,), generator=seeded).sort().values
    feature = keys // job.own_tokens
    score, dots = torch.rand(2, matches, generator=seeded).unbind()
    centred, g = torch.randn(2, job.own_tokens, job.d_in, generator=seeded).unbind()
    own = Gradients((Term(Matches(keys - feature * job.own_tokens, feature, score), dots, g),), centred, features, CPU)
    whole = torch.zeros(2, features, job.d_in)  # allocated once, as an engine would

    def factors() -> None:
        for *_, encoder, decoder in own.gathered(data).row_blocks(_BLOCK):
            encoder.sum(), decoder.sum()

    def matrices() -> None:
        for first, last, encoder, decoder in own.row_blocks(_BLOCK):
            whole[0, first:last], whole[1, first:last] = encoder, decoder
        encoders, decoders = data.sum(whole)
        for first in range(0, features, _BLOCK):
            encoders[first : first + _BLOCK].sum(), decoders[first : first + _BLOCK].sum()

    taken: tuple[list[_Taken], list[_Taken]] = [], []
    for number in range(rounds + 1):  # the first round warms up
        for way, costs in zip((factors, matrices), taken, strict=True):
            data.sum(torch.zeros(1))  # all begin together
            begun = time.perf_counter(), time.process_time(), data.bytes_received
            way()
            spent = _Taken(
                time.perf_counter() - begun[0], time.process_time() - begun[1], data.bytes_received - begun[2]
            )
            if number:
                costs.append(spent)
    return *taken, matches


def print_data_exchange(widths: list[int], tokens: list[int], d_in: int, k: int, rounds: int) -> None:
    """Prints a table for two data ranks.

    Args:
        widths: features of a rank.
        tokens: tokens of a rank.
        d_in: width of the activations.
        k: mean matches per token.
        rounds: how often each way goes.
    """
    print(
        f"\n2x1 ranks, d_in {d_in}, k {k}, {rounds} rounds by turns, medians; MB received by a rank\n\n"
        "| tokens of a rank | features of a rank | factors, MB | formula | matrices, MB | formula | factors, ms "
        "| matrices, ms | CPU ms: factors | matrices | fewer bytes | sooner |\n" + "|---" * 12 + "|"
    )
    for own_tokens in tokens:
        for width in widths:
            job = Job(d_in=d_in, d_sae=width, tokens=2 * own_tokens, k=k, data=2)
            found = run_on_mesh(_measure, (2, 1), job, rounds, seconds=600)
            cells, expected = [], (bytes_received(job, found[0][2])["factors"], dense_bytes(job))
            for way in (0, 1):
                cells += [f"{median(one.received for one in found[0][way]) / 1e6:.2f}", f"{expected[way] / 1e6:.2f}"]
            walls = [median(max(rank[way][turn].seconds for rank in found) for turn in range(rounds)) for way in (0, 1)]
            busy = [
                median(mean(rank[way][turn].processor for rank in found) for turn in range(rounds)) for way in (0, 1)
            ]
            cells += [f"{1000 * value:.0f}" for value in (*walls, *busy)]
            cells += ["factors" if pair[0] < pair[1] else "matrices" for pair in (expected, walls)]
            print(f"| {own_tokens} | {width} | " + " | ".join(cells) + " |", flush=True)
