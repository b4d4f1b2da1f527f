"""The numbers of a logged line are means over the steps since the last line, and count training time alone."""

import time

import pytest
import torch

from distsae.allocation import Matches
from distsae.kernels import CPU
from distsae.losses import Concentration, Underused
from distsae.training import BatchOutcome, Gradients
from distsae.training.metrics import Meter, TrainingClock, all_stopped
from distsae.training.step.selection_cost import SelectionCost

NOTHING = Matches(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0))
UNDERUSED = Underused(torch.zeros(8, dtype=torch.bool), 0.25, 0.125, 0.375, 1.5, 20.0, 0.9, 0.2)
CONCENTRATION = Concentration(0.3, 0.05)


def _outcome(loss, squared_error, energy, tokens=100):
    gradients = Gradients((), torch.zeros(1, 1), 1, CPU)
    return BatchOutcome(NOTHING, loss, loss / 10, squared_error, energy, gradients, tokens)


def test_a_line_averages_the_steps_since_the_last_line():
    meter = Meter(100, TrainingClock())
    meter.add(_outcome(0.5, 10.0, 20.0), budget=400, shortfall=0, gradient_norm=1.0, cost=SelectionCost(1, 2, 3000))
    meter.add(_outcome(0.3, 2.0, 40.0), budget=400, shortfall=50, gradient_norm=3.0, cost=SelectionCost(2, 5, 4000))
    line = meter.line(12, 1e-3, 0.7, UNDERUSED, CONCENTRATION, "mutual_choice", 4.5)
    assert line["step"] == 12
    assert line["tokens"] == 1200
    assert line["loss"] == pytest.approx(0.4)
    assert line["aux_loss"] == pytest.approx(0.04)
    assert line["fvu"] == pytest.approx(12 / 60)  # a ratio of sums, not a mean of ratios
    assert line["l0"] == pytest.approx(750 / 200)
    assert line["shortfall"] == 25
    assert line["k"] == 4.5
    assert line["grad_norm"] == 2.0
    assert (line["lr"], line["threshold"], line["allocation"]) == (1e-3, 0.7, "mutual_choice")
    assert (line["aux_share"], line["dead_share"], line["underutilised_share"]) == (0.25, 0.125, 0.375)
    assert (line["zipf_s"], line["zipf_q"], line["zipf_r_squared"], line["zipf_residual"]) == (1.5, 20.0, 0.9, 0.2)
    assert (line["top_feature_share"], line["token_overlap"]) == (0.3, 0.05)
    assert line["second_passes"] == 1  # a sum; the next two are means per step
    assert (line["selection_collectives"], line["selection_kilobytes"]) == (3.5, 3.5)
    assert line["tokens_per_second"] > 0
    meter.add(_outcome(0.1, 1.0, 10.0), budget=400, shortfall=0, gradient_norm=1.0, cost=SelectionCost(1))
    assert meter.line(13, 1e-3, None, UNDERUSED, CONCENTRATION, "token_choice", 4)["loss"] == pytest.approx(0.1)


def test_a_restored_meter_logs_the_same_line():
    straight, stopped = Meter(100, TrainingClock()), Meter(100, TrainingClock())
    for meter in (straight, stopped):
        meter.add(_outcome(0.5, 10.0, 20.0), 400, 7, 1.0, SelectionCost(3, 4, 5))
    resumed, kept = Meter(100, TrainingClock()), stopped.facts()
    resumed.restore(kept)
    assert resumed.seconds >= kept["seconds"] - 1e-3
    for meter in (straight, resumed):
        meter.add(_outcome(0.1 + 0.2, 2.0, 40.0), 400, 0, 3.0, SelectionCost(1, 2, 7))
    lines = [meter.line(2, 1e-3, None, UNDERUSED, CONCENTRATION, "token_choice", 4) for meter in (straight, resumed)]
    for line in lines:
        del line["seconds"], line["tokens_per_second"]
    assert lines[0] == lines[1]


def test_seconds_before_a_resume_are_included():
    meter = Meter(100, TrainingClock())
    meter.restore(Meter(100, TrainingClock()).facts() | {"seconds": 3600.0})
    assert 3600 <= meter.seconds < 3700


def test_a_stopped_clock_counts_no_seconds(monkeypatch):
    readings = iter([10.0, 11.0, 13.0, 18.0, 20.0, 20.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(readings))
    clock = TrainingClock()
    meter = Meter(100, clock)  # at 10
    meter.add(_outcome(0.5, 10.0, 20.0), 400, 0, 1.0, SelectionCost(1))
    assert meter.seconds == 1.0
    with clock.stopped():  # from 13 to 18
        pass
    line = meter.line(1, 1e-3, None, UNDERUSED, CONCENTRATION, "token_choice", 4)  # at 20
    assert line["tokens_per_second"] == pytest.approx(100 / 5)
    assert line["seconds"] == 5.0


def test_several_clocks_are_stopped_at_once(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    first, second = TrainingClock(), TrainingClock()
    meters = [Meter(100, first), Meter(100, second)]
    with all_stopped([second]):
        now[0] += 5
    with all_stopped([first, second]):
        now[0] += 50
    now[0] += 2
    assert [meter.seconds for meter in meters] == [7, 2]
