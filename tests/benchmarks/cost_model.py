"""What a step of Mutual Choice costs on a mesh: bytes by formula, time by rates, memory by sizes.

The bytes are those that `GroupCollective` counts, and a test holds the formulas against two real ranks. Times follow
from them and from the work of a rank, given a machine's rates. Reading goes on beside the step;
nothing else overlaps, as nothing does in the code; kernel launches and waiting for the slowest rank are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from distsae.planning.step_shape import HISTOGRAM, all_reduce_bytes, bytes_received, work
from distsae.planning.step_shape import StepShape as Job

__all__ = [
    "H100",
    "Cost",
    "Job",
    "Machine",
    "bytes_received",
    "calls",
    "cost",
    "dense_bytes",
    "memory",
    "most_selection_bytes",
    "work",
]

_FEW = 4096
"""Keys that the last round of a selection may gather on a rank, those of all ranks together."""


def calls(job: Job) -> dict[str, int]:
    """Returns the collectives of a step, by exchange; the selection as it usually is."""
    some = job.reconstructions
    data = job.data > 1
    feature = job.feature > 1
    return {
        "selection": 2 * some * (job.ranks > 1),
        "reconstruction": 1 * feature,
        "factors": (1 + 3 * some) * data,
        "firings": 1 * data,
        "numbers": some * data + feature,
    }


def most_selection_bytes(job: Job) -> float:
    """Returns the most that one selection receives while its forecast holds: two histograms and a gather, no ties."""
    return all_reduce_bytes((8 + 8) * HISTOGRAM, job.ranks) + 8 * _FEW


def dense_bytes(job: Job) -> float:
    """Returns what data ranks would receive if they summed matrices of gradients rather than gather their factors."""
    return all_reduce_bytes(2 * job.own_features * 4 * job.d_in, job.data)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Rates of the accelerators and the links between them; all assumed unless measured.

    Args:
        products: floating-point operations per second of a bf16 product.
        memory: bytes per second of the accelerator's memory.
        inside: bytes per second that reach one accelerator from those of its machine.
        between: bytes per second that one accelerator's own link brings from other machines.
        latency_inside: seconds of a collective that moves nothing.
        latency_between: likewise between machines.
        size: accelerators of a machine.
        weight_traffic: bytes that the pass over the rows moves for a weight: its gradient written, Adam, projection
            or norm, and the copies of the prefilter.
        score_traffic: bytes moved for a bf16 score: written and looked through once.
        reading: bytes per second of stored rows that a rank reads, checks and normalises.
    """

    products: float = 4e14
    memory: float = 2.5e12
    inside: float = 2.5e11
    between: float = 4e10
    latency_inside: float = 2e-5
    latency_between: float = 6e-5
    size: int = 8
    weight_traffic: float = 48
    score_traffic: float = 4
    reading: float = 5e9

    def link(self, size: int, stride: int) -> tuple[float, float]:
        """Returns the bytes per second that reach a rank in a group, and its latency.

        A ring enters a machine once for all the group's ranks in it, through the links of all of them.

        Args:
            size: ranks of the group.
            stride: ranks of the job from one of them to the next.
        """
        inside = max(self.size // stride, 1)
        if size <= inside:
            return self.inside, self.latency_inside
        return min(self.inside, self.between * inside), self.latency_between


H100 = Machine()


@dataclass(frozen=True)
class Cost:
    """Seconds of a step on a rank, by part.

    Args:
        encode: the product and the look through its scores.
        rows: decoding, dots of matches, row sums: what grows with matches.
        update: what grows with weights.
        exchanges: by exchange, as `bytes_received` names them.
        reading: the next batch, meanwhile.
    """

    encode: float
    rows: float
    update: float
    exchanges: dict[str, float]
    reading: float

    @property
    def compute(self) -> float:
        """Seconds without exchanges."""
        return self.encode + self.rows + self.update

    @property
    def total(self) -> float:
        """Seconds of the step; it waits for the batch if reading takes longer."""
        return max(self.compute + sum(self.exchanges.values()), self.reading)


def cost(job: Job, machine: Machine = H100, *, dense: bool = False) -> Cost:
    """Returns the seconds of a step; feature ranks are neighbours, so that the feature axis fills machines first.

    Args:
        job: the step.
        machine: its rates.
        dense: whether data ranks sum matrices of gradients instead.
    """
    done, received = work(job), bytes_received(job)
    summed = done["summed"]
    if dense:
        received["factors"] = dense_bytes(job)
        # Own matches only; but the matrices are written, and read again.
        summed = summed / job.data + 2 * done["weights"]
    number = calls(job)
    groups = dict.fromkeys(received, (job.data, job.feature)) | {"selection": (job.ranks, 1)}
    groups |= dict.fromkeys(("reconstruction", "numbers"), (job.feature, 1))
    exchanges = {}
    for name, (size, stride) in groups.items():
        rate, latency = machine.link(size, stride)
        exchanges[name] = received[name] / rate + number[name] * latency
    return Cost(
        2 * done["product"] / machine.products + done["scores"] * machine.score_traffic / machine.memory,
        4 * (done["matched"] + summed) / machine.memory,
        done["weights"] * machine.weight_traffic / machine.memory,
        exchanges,
        2 * job.own_tokens * job.d_in / machine.reading,
    )


def memory(job: Job, selection_mb: float = 128, moment_bytes: float = 4) -> dict[str, float]:
    """Returns the bytes of a rank, by what they are for.

    Args:
        job: the step.
        selection_mb: what a chunk of scores may take.
        moment_bytes: bytes of one of Adam's two moments of a weight.
    """
    gathered = job.data
    vectors = 4 * job.own_tokens * job.d_in
    return {
        "weights and Adam": job.own_features * job.d_in * 2 * (4 + 2 * moment_bytes),
        "prefilter": job.own_features * (job.d_in + 16) * 2,
        "tokens": vectors * 5,
        "factors": gathered * (vectors * (1 + job.reconstructions) + 24 * job.own_matches),
        "selection": selection_mb * 2**20 + 24 * job.own_matches,
        "statistics": 48 * job.own_features,
    }
