"""The text of a plan has all that was planned."""

import re

from distsae.planning.cluster.plan_table import plan_lines
from tests.planning.cluster.samples import check_file, plan


def _text(**changes):
    return "\n".join(plan_lines(plan(**changes)))


def test_a_plan_from_data_sheets_says_so():
    text = _text(gpus=64, model_parameters=1e9, max_inodes=100_000)
    assert "times are computed from data sheets, and not measured" in text
    assert re.search(r"^\d+ x \d+, best +[\d,.]+ +[\d,]+ ", text, re.MULTILINE)
    assert "and 3 more" in text
    for part in (
        "memory of the first rank, on the GPU; 79.00 GiB each: it fits",
        "encoder and decoder rows",
        "in the host's memory",
        "largest d_sae that fits on this mesh: ",
        "selection",
        "reading, meanwhile",
        "exchanges of a step",
        "reconstruction, sum",
        "tokens/s; 15,259 steps in",
        "GPU hours",
        "inodes; `distsae produce --",
        "producers: ",
        "checkpoints: ",
    ):
        assert part in text, part
    assert text.splitlines()[-1].startswith("bottleneck: ")


def test_one_process_exchanges_nothing():
    text = _text(gpus=1, d_sae=1 << 16)
    assert "one process exchanges nothing" in text
    assert "producers: give `model_parameters`" in text
    assert "more" not in text.split("memory of the first rank")[0]


def test_a_plan_from_a_check_says_what_was_measured(tmp_path):
    text = _text(d_in=768, d_sae=1 << 16, gpus=128, check=check_file(tmp_path, exchange=False), optimizer_state="bf16")
    assert "times follow from a step that was measured at d_sae 16,384, d_in 768, 4096 tokens, k 32" in text
    assert "no exchange was measured" in text
    assert "those between machines are computed" in text
    assert "not measured: optimizer.state bf16" in text
    assert "in the host's memory" not in text
    assert "core hours" in text


def test_a_quota_that_cannot_be_kept():
    assert "with any units and chunks; split it over stores" in _text(max_inodes=10)


def test_what_does_not_fit_is_said():
    text = _text(gpus=8, d_sae=1 << 26)
    assert "does not fit" in text
    assert "bottleneck: memory" in text
