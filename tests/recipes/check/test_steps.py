"""A step is measured by part where it fits into memory and time, and set against its floor."""

import pytest
import torch

from distsae.recipes.check import CheckConfig
from distsae.recipes.check.rates import Rates
from distsae.recipes.check.steps import StepTime, step_floor, step_time, steps_found

CONFIG = CheckConfig(d_in=16, batch_tokens=256, k=4)
RATES = Rates(product=1e9, exact=1e9, copy=1e9)
CPU = torch.device("cpu")


def test_the_floor_is_a_product_and_a_pass_over_the_weights():
    # 2 * 1000 * 256 * 16 operations, and 25 bytes of each of 2 * 1000 * 16 weights.
    assert step_floor(1000, CONFIG, RATES) == pytest.approx(8_192_000e-9 + 800_000e-9)


def test_every_part_of_a_real_step_takes_time():
    found = step_time(512, CONFIG, CPU)
    assert min(found.selection, found.rows, found.update) > 0
    assert found.whole == found.selection + found.rows + found.update


def test_widths_that_fit_neither_memory_nor_time_are_left_out(monkeypatch):
    measured = []

    def time_of(d_sae, config, device):
        measured.append(d_sae)
        return StepTime(0.1, 0.2, 0.3)

    monkeypatch.setattr("distsae.recipes.check.steps.WIDTHS", (256, 512, 1 << 40))
    monkeypatch.setattr("distsae.recipes.check.steps.step_time", time_of)
    floor = step_floor(256, CONFIG, RATES)
    found = list(steps_found(CONFIG, CPU, RATES, 51 * floor))
    assert measured == [256]
    assert [finding.state for finding in found] == ["ok", "skipped", "skipped"]
    assert "600 ms (selection 100, rows 200, update 300)" in found[0].text
    assert "are left" in found[1].text
    assert "the memory holds" in found[2].text
