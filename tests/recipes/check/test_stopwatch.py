"""The median of repetitions, without the first one."""

import time

import torch

from distsae.recipes.check.stopwatch import now, seconds_of

CPU = torch.device("cpu")


def test_the_first_time_does_not_count_and_few_long_ones_are_enough(monkeypatch):
    clock = [0.0]
    lengths = iter([50.0, 1.0, 9.0, 2.0])
    monkeypatch.setattr("distsae.recipes.check.stopwatch.now", lambda device: clock[0])

    def work():
        clock[0] += next(lengths)

    assert seconds_of(work, CPU) == 2.0


def test_short_work_is_repeated(monkeypatch):
    clock, calls = [0.0], [0]
    monkeypatch.setattr("distsae.recipes.check.stopwatch.now", lambda device: clock[0])

    def work():
        calls[0] += 1
        clock[0] += 0.01

    seconds_of(work, CPU)
    assert calls[0] > 25


def test_time_goes_on():
    begun = now(CPU)
    time.sleep(0.01)
    assert now(CPU) > begun
