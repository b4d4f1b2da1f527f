"""The cost model: its bytes and calls are those of real ranks, its fit finds the rates."""

from __future__ import annotations

import dataclasses
import itertools
import time

import pytest

from distsae.parallel import Mesh
from tests.benchmarks.cost_model import (
    Job,
    bytes_received,
    calls,
    dense_bytes,
    most_selection_bytes,
    work,
)
from tests.benchmarks.measured_step import PARTS, StepCost, Summary, measure_steps, summary
from tests.benchmarks.random_store import synthetic_store
from tests.benchmarks.scaling import expected_parts, fit
from tests.distributed.processes import run_on_mesh

D_IN = 24
WIDE = Job(d_in=4096, d_sae=1 << 21, tokens=65536, k=32, data=8, feature=8)


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of random rows."""
    root = tmp_path_factory.mktemp("scaling")
    synthetic_store(root, 8192, D_IN)
    return str(root)


def _counted(mesh: Mesh, job: Job, path: str) -> list[StepCost]:
    """One step, by clocks that count how often they are asked: whatever is measured takes time."""
    ticks = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        for clock in ("thread_time", "process_time"):
            patch.setattr(time, clock, lambda: next(ticks) * 1e-3)
        return measure_steps(mesh, job, path, "random", 1, 2)


@pytest.mark.parametrize(("data", "feature", "k_aux"), [(2, 1, 0), (1, 2, 0), (2, 1, 3), (1, 2, 3), (2, 2, 3)])
def test_bytes_and_calls_are_those_of_real_ranks(store_path: str, data: int, feature: int, k_aux: int) -> None:
    job = Job(d_in=D_IN, d_sae=300, tokens=128, k=8, data=data, feature=feature, k_aux=k_aux)
    found = run_on_mesh(_counted, (data, feature), job, store_path)
    for row in range(feature):  # the data ranks of the same features
        column = [found[data_rank * feature + row] for data_rank in range(data)]
        one = summary(job, column)
        formula = bytes_received(job, one.matches)
        least = formula.pop("selection")
        assert {kind: one.received[kind] for kind in formula} == formula
        assert least <= one.received["selection"] <= job.reconstructions * most_selection_bytes(job)
        assert one.calls == calls(job)
        assert all(one.parts[part] > 0 for part in PARTS)


def test_one_rank_receives_nothing() -> None:
    alone = dataclasses.replace(WIDE, data=1, feature=1)
    assert set(bytes_received(alone).values()) == set(calls(alone).values()) == {0}


def test_factors_win_until_the_batch_has_twice_as_many_tokens_as_a_rank_has_features() -> None:
    def sent(tokens: int) -> tuple[float, float]:
        job = Job(d_in=4096, d_sae=8192, tokens=tokens, k=0, data=4)
        return bytes_received(job)["factors"], dense_bytes(job)

    assert sent(2 * 8192)[0] == pytest.approx(sent(2 * 8192)[1], rel=1e-5)
    assert sent(8192)[0] < sent(8192)[1]
    assert sent(4 * 8192)[0] > sent(4 * 8192)[1]


def test_the_fit_finds_the_rates() -> None:
    rates = {
        "encode": {"product": 1e-11, "matched": 2e-11},
        "rows": {"matched": 7e-11},
        "update": {"weights": 3e-9, "summed": 1e-10},
    }

    def timed(job: Job) -> Summary:
        return Summary(job, expected_parts(job, rates), {}, {}, {}, 0, 0, 0, 0)

    jobs = [Job(d_in=64, d_sae=d_sae, tokens=tokens, k=8) for d_sae, tokens in ((4096, 512), (1024, 512), (4096, 128))]
    found = fit([timed(job) for job in jobs])
    assert {part: pytest.approx(of, rel=1e-6) for part, of in rates.items()} == found
    assert work(jobs[0])["product"] == 512 * 4096 * 64
