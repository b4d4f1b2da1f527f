"""The file of a check is read as anything from outside is: what is wrong with it is one line."""

import json

import pytest

from distsae.errors import WrongInput
from distsae.planning.measured_rates import CheckedSizes, MeasuredStep, read_rates
from distsae.recipes.check.finding import Finding
from distsae.recipes.check.table import as_json

SETTINGS = {"d_in": 64, "k": 8, "batch_tokens": 256, "device": "cuda"}


def _step(d_sae, **changes):
    figures = {"d_sae": d_sae, "step_s": 6.0, "floor_s": 1.0, "selection_s": 1.0, "rows_s": 2.0, "update_s": 3.0}
    return Finding(f"step, d_sae {d_sae:,}", "ok", "", figures | changes)


FINDINGS = [
    Finding("versions", "ok", "", {"torch": "2.13"}),
    Finding(
        "exchange, 4 processes",
        "ok",
        "",
        {"backend": "nccl", "processes": 4, "sum_bytes_per_s": 3e10, "sum_latency_s": 4e-5},
    ),
    Finding("reading", "ok", "", {"rows_per_s": 1e6, "read_bytes_per_s": 2e9}),
    Finding("copy to the GPU, page-locked", "ok", "", {"to_gpu_bytes_per_s": 5e10}),
    _step(1 << 17),
    _step(1 << 14),
    Finding("step, d_sae 1,048,576", "skipped", "no room"),
]


@pytest.fixture
def written(tmp_path):
    def write(findings=FINDINGS, settings=SETTINGS):
        path = tmp_path / "check.json"
        path.write_text(as_json(findings, settings))
        return str(path)

    return write


def test_what_a_check_measured(written):
    rates = read_rates(written())
    assert rates.sizes == CheckedSizes(64, 8, 256, "cuda")
    assert rates.steps == (MeasuredStep(1 << 14, 1.0, 2.0, 3.0), MeasuredStep(1 << 17, 1.0, 2.0, 3.0))
    assert (rates.read_bytes, rates.upload_bytes, rates.exchange_bytes, rates.exchanging) == (2e9, 5e10, 3e10, 4)
    assert rates.exchange_latency == 4e-5


def test_a_check_of_one_process_on_a_cpu(written):
    rates = read_rates(written([_step(1 << 14)]))
    assert (rates.read_bytes, rates.upload_bytes, rates.exchange_bytes, rates.exchanging) == (None, None, None, 0)
    assert rates.exchange_latency is None  # nor do older checks have it


def test_a_file_that_is_missing_or_of_something_else(written, tmp_path):
    with pytest.raises(WrongInput, match="must be a file; got none; write it with `distsae check --json "):
        read_rates(str(tmp_path / "none.json"))
    (tmp_path / "other.json").write_text(json.dumps({"findings": []}))
    with pytest.raises(WrongInput, match="must be the JSON file of a check; got one in which `settings` is missing"):
        read_rates(str(tmp_path / "other.json"))
    (tmp_path / "text.json").write_text("x")
    with pytest.raises(WrongInput, match="not valid JSON"):
        read_rates(str(tmp_path / "text.json"))
    with pytest.raises(WrongInput, match="must have measured a step; got none"):
        read_rates(written(FINDINGS[:4]))


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "fast", None, True])
@pytest.mark.parametrize("name", ["selection_s", "read_bytes_per_s"])
def test_figures_that_are_no_rates(written, name, value):
    finding = _step(1 << 14, **{name: value}) if name == "selection_s" else Finding("reading", "ok", "", {name: value})
    if name == "read_bytes_per_s" and value is None:  # as if it had not been measured
        read_rates(written([*FINDINGS[-2:], _step(1 << 15), finding]))
        return
    with pytest.raises(WrongInput, match=rf"in which `figures\.{name}` must be"):
        read_rates(written([*FINDINGS[-2:], _step(1 << 15), finding]))
