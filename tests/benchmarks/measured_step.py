"""Steps of Mutual Choice on a mesh, with what each part of them took on this rank.

Computing is counted in processor time of the thread that computes, so that more processes than cores do not spoil it;
exchanges in calls, bytes and wall time. Batches come from a store; reading is settled before each step, so that it is
counted by itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import mean, median

from distsae.allocation import MutualSelector
from distsae.batches import BatchReader
from distsae.losses import FiringStatistics
from distsae.model import FeatureShard
from distsae.parallel import Mesh
from distsae.store import Store
from distsae.training import Selectors, forward_backward
from distsae.training.engines.optimizer import OptimizerConfig
from distsae.training.engines.plain import PlainEngine
from distsae.training.thresholds import ThresholdTracker
from tests.benchmarks.cost_model import Job
from tests.benchmarks.metered_mesh import EXCHANGES, Clock, Ledger, Spent, TimedSelectors, metered

__all__ = ["PARTS", "StepCost", "Summary", "measure_steps", "summary"]

PARTS = ("encode", "rows", "update", "statistics", "reading")


@dataclass(frozen=True)
class StepCost:
    """One step on one rank.

    Args:
        wall: seconds of the step, reading left out.
        parts: processor seconds: encoding and selecting; decoding, losses and dots of matches; gradients and update;
            firing statistics and thresholds; reading, of all threads.
        exchanges: what the collectives took.
        matches: of this rank, of each reconstruction.
        passes: how often the batch was encoded.
    """

    wall: float
    parts: dict[str, float]
    exchanges: dict[str, Spent]
    matches: tuple[int, ...]
    passes: int


def measure_steps(mesh: Mesh, job: Job, path: str, hook: str, steps: int, warm_up: int) -> list[StepCost]:
    """Trains for `warm_up + steps` steps; the costs of the last `steps`."""
    ledger = Ledger()
    mesh = metered(mesh, ledger)
    store = Store.open(path)
    reader = BatchReader(store, hook, job.tokens, 0, mesh.data.rank, mesh.data.size)
    sealed = store.statistics(hook)
    mean = reader.normalisation.apply(sealed.mean.clone())
    variance = sealed.variance * reader.normalisation.scale**2
    features = mesh.features(job.d_sae)
    shard = FeatureShard(job.d_in, job.d_sae, features, mean, 0, prefilter=True)
    optimizer = OptimizerConfig()
    engine, rate = PlainEngine(shard, mesh, optimizer), optimizer.peak_rate(job.d_sae, 1)
    statistics, thresholds = FiringStatistics(len(features), 10**6, 10**6), ThresholdTracker(len(features))
    selectors = [MutualSelector(k) for k in (job.k, job.k_aux) if k]
    costs = []
    for step in range(warm_up + steps):
        begun = time.process_time()
        x = reader.batch(step).x
        reader.wait_until_ahead()
        reading = time.process_time() - begun
        mesh.world.sum(mean.new_zeros(1))  # all begin together
        ledger.take()
        wall, clock = time.perf_counter(), Clock(ledger)
        timed = TimedSelectors(selectors, ledger)
        outcome = forward_backward(shard, x, mesh, Selectors(*timed.wrapped), mean, variance, 1 / 32)
        forward = clock.lap()
        engine.update(outcome.gradients, rate)
        update = clock.lap()
        thresholds.update(selectors[0])
        statistics.update(outcome.matches.feature, job.tokens, mesh.data)
        after = clock.lap()
        wall = time.perf_counter() - wall
        parts = dict(zip(PARTS, (timed.seconds, forward - timed.seconds, update, after, reading), strict=True))
        matches = tuple(len(term.matches) for term in outcome.gradients.terms)
        costs.append(StepCost(wall, parts, ledger.take(), matches, timed.passes))
    reader.close()
    return costs[warm_up:]


@dataclass(frozen=True)
class Summary:
    """The step of a mesh: medians over steps.

    Args:
        job: the step.
        parts: processor seconds of the busiest rank.
        received: bytes that reach a rank, mean over ranks.
        calls: torch's collectives of a rank.
        seconds: wall time of each exchange on the rank that waits least, which is the last to come.
        exchange_processor: processor seconds of the exchanges, all threads of a rank, mean over ranks.
        wall: seconds of the step.
        matches: of the rank that has most, both reconstructions' together.
        passes: passes over the encoder, all measured steps together.
    """

    job: Job
    parts: dict[str, float]
    received: dict[str, float]
    calls: dict[str, float]
    seconds: dict[str, float]
    exchange_processor: float
    wall: float
    matches: float
    passes: int


def summary(job: Job, ranks: list[list[StepCost]]) -> Summary:
    """Sums up what `measure_steps` found on all ranks."""
    steps = list(zip(*ranks, strict=True))

    def of(kind: str, field: str, step: tuple[StepCost, ...]) -> list[float]:
        return [getattr(cost.exchanges.get(kind, Spent()), field) for cost in step]

    return Summary(
        job,
        {part: median(max(cost.parts[part] for cost in step) for step in steps) for part in PARTS},
        {kind: median(mean(of(kind, "received", step)) for step in steps) for kind in EXCHANGES},
        {kind: median(max(of(kind, "calls", step)) for step in steps) for kind in EXCHANGES},
        {kind: median(min(of(kind, "seconds", step)) for step in steps) for kind in EXCHANGES},
        median(mean(sum(spent.processor for spent in cost.exchanges.values()) for cost in step) for step in steps),
        median(max(cost.wall for cost in step) for step in steps),
        median(sum(map(max, zip(*(cost.matches for cost in step), strict=True))) for step in steps),
        sum(cost.passes for cost in ranks[0]),
    )
