"""A step that was measured takes what was measured; others take as much more as they have more work."""

from dataclasses import replace

import pytest

from distsae.errors import WrongInput
from distsae.parallel import MeshConfig
from distsae.planning.exchanges import bytes_received
from distsae.planning.measured_rates import CheckedSizes, MeasuredRates, MeasuredStep
from distsae.planning.step_seconds import EXCHANGE, StepSeconds, not_measured, step_seconds
from distsae.planning.step_shape import StepShape, work
from distsae.training import OptimizerConfig
from tests.planning.samples import run

RATES = MeasuredRates(
    CheckedSizes(64, 8, 1024, "cpu"),
    (MeasuredStep(1 << 14, 1.0, 0.5, 0.25), MeasuredStep(1 << 17, 8.0, 0.6, 2.0)),
    read_bytes=1e6,
    exchange_bytes=1e7,
    exchanging=2,
)
MEASURED = StepShape(d_in=64, d_sae=1 << 14, tokens=1024, k=8)


def _parts(shape, **changes):
    return step_seconds(shape, 2, replace(RATES, **changes), gpu=False).parts


def test_a_measured_step_takes_what_was_measured():
    assert _parts(MEASURED) == pytest.approx({"selection": 1.0, "matched rows": 0.5, "update": 0.25})
    found = step_seconds(replace(MEASURED, d_sae=1 << 17), 2, RATES, gpu=False)
    assert found.parts == pytest.approx({"selection": 8.0, "matched rows": 0.6, "update": 2.0})
    assert found.measured_at == 1 << 17
    assert found.whole == pytest.approx(10.6)
    assert found.tokens_per_second == pytest.approx(1024 / 10.6)
    assert found.bottleneck == "selection"


def test_parts_grow_with_their_own_work():
    def grown(**changes):
        return list(_parts(replace(MEASURED, **changes)).values())

    assert grown(d_sae=1 << 15) == pytest.approx([2.0, 0.5, 0.5])
    assert grown(tokens=2048) == pytest.approx([2.0, 1.0, 0.25])
    assert grown(k=24) == pytest.approx([1.0, 1.5, 0.25])
    assert grown(d_in=128) == pytest.approx([2.0, 1.0, 0.5])


def test_the_nearest_width_is_that_of_a_rank():
    shape = replace(MEASURED, d_sae=1 << 17, feature=8)
    found = step_seconds(shape, 2, RATES, gpu=False)
    assert found.measured_at == 1 << 14
    assert found.parts["selection"] == pytest.approx(1.0)
    for name, size in bytes_received(shape).items():
        assert found.parts[EXCHANGE + name] == pytest.approx(size / 1e7)
    slow = step_seconds(shape, 2, replace(RATES, exchange_latency=0.2), gpu=False)
    more = slow.parts[EXCHANGE + "reconstruction"] - found.parts[EXCHANGE + "reconstruction"]
    assert more == pytest.approx(7 * 0.2)  # 14 steps of a ring of 8, where 2 were measured


def test_works_that_widths_tell_apart_grow_by_themselves():
    """An update of these seconds is one pass over the weights, and one over the matches of all data ranks."""
    wide = replace(MEASURED, d_sae=1 << 17)
    seconds = {shape.d_sae: 1e-9 * work(shape)["weights"] + 2e-9 * work(shape)["summed"] for shape in (MEASURED, wide)}
    steps = tuple(MeasuredStep(d_sae, 1.0, 0.5, update) for d_sae, update in seconds.items())
    split = replace(MEASURED, data=4, tokens=4096)
    expected = 1e-9 * work(split)["weights"] + 2e-9 * work(split)["summed"]
    assert _parts(split, steps=steps)["update"] == pytest.approx(expected)
    assert _parts(split, steps=steps)["matched rows"] == pytest.approx(0.5)


def test_a_step_waits_for_rows_that_take_longer_to_read():
    found = step_seconds(MEASURED, 2, replace(RATES, read_bytes=1e4), gpu=False)
    assert found.whole == found.meanwhile["reading"] == 1024 * 64 * 2 / 1e4
    assert found.bottleneck == "reading"
    gpu = replace(RATES, sizes=replace(RATES.sizes, device="cuda"), upload_bytes=1e3)
    assert step_seconds(MEASURED, 2, gpu, gpu=True).bottleneck == "copy to the GPU"


def test_what_was_not_measured_is_asked_for():
    with pytest.raises(WrongInput, match="must have measured an exchange for a mesh of 2 x 1"):
        _parts(replace(MEASURED, data=2), exchange_bytes=None)
    with pytest.raises(WrongInput, match="must have measured the device that is planned for, cuda; got the check of a"):
        step_seconds(MEASURED, 2, RATES, gpu=True)
    assert step_seconds(MEASURED, 2, replace(RATES, read_bytes=None), gpu=False).meanwhile == {}


def test_settings_that_no_check_measures_are_named():
    assert not_measured(run(allocation="mutual_choice")) == []
    assert not_measured(run(optimizer=OptimizerConfig(divide_moments=True))) == []  # nothing is sent
    divided = run(optimizer=OptimizerConfig(divide_moments=True), mesh=MeshConfig(data=2))
    assert not_measured(divided) == ["optimizer.divide_moments True"]
    other = run(allocation="token_choice", optimizer=OptimizerConfig(state="int8"), accumulation=2)
    assert not_measured(other) == ["allocation token_choice", "optimizer.state int8", "accumulation 2"]


def test_members_of_a_sweep_step_one_after_another():
    one = StepSeconds({"update": 1.0, "selection": 2.0}, {"reading": 5.0}, 10, 64)
    two = StepSeconds({"update": 2.0, "selection": 3.0}, {"reading": 5.0}, 10, 64)
    both = StepSeconds.joined([one, two])
    assert both.parts == {"update": 3.0, "selection": 5.0}
    assert both.whole == 8.0
