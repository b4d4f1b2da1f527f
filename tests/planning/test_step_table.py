from distsae.planning.measured_rates import CheckedSizes, MeasuredRates, MeasuredStep
from distsae.planning.step_seconds import StepSeconds
from distsae.planning.step_table import step_table

RATES = MeasuredRates(CheckedSizes(64, 8, 1024, "cpu"), (MeasuredStep(64, 1.0, 1.0, 1.0),))


def test_parts_sum_and_bottleneck():
    expected = StepSeconds({"selection": 0.0123, "update": 2.5}, {"reading": 0.01}, 1000, 1 << 17)
    text = "\n".join(step_table(expected, RATES))
    assert "measured at d_sae 131,072, d_in 64, 1024 tokens, k 8" in text
    assert [line.split() for line in text.splitlines()[2:6]] == [
        ["selection", "12.3"],
        ["update", "2,500"],
        ["reading,", "meanwhile", "10"],
        ["step", "2,512"],
    ]
    assert "398 tokens/s; bottleneck: update" in text


def test_what_is_left_out_is_said():
    lines = step_table(StepSeconds({"update": 1.0}, {}, 10, 64), RATES, ["engine deepspeed"])
    assert lines[-2:] == [
        "reading was not measured and is left out",
        "not measured, so the times are those without: engine deepspeed",
    ]
