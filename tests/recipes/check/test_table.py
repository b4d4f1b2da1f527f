"""The table and the JSON hold what was found."""

import json

from distsae.recipes.check.finding import Finding
from distsae.recipes.check.table import as_json, line_of, summary_of

OK = Finding("kernels", "ok", "cpu", {"rate": 2.0})
BAD = Finding("bf16 margin", "failed", "a score exceeds its bound " * 6)
LEFT = Finding("step", "skipped", "no time")


def test_long_texts_go_on_below():
    first, *rest = line_of(BAD).splitlines()
    assert first.startswith("bf16 margin")
    assert "failed" in first
    assert rest
    assert all(line.startswith(" " * 30) for line in rest)
    assert all(len(line) <= 124 for line in (first, *rest))


def test_the_last_line_names_what_failed_and_was_skipped():
    assert summary_of([OK]) == "nothing failed"
    assert summary_of([OK, BAD, LEFT]) == "1 failed: bf16 margin. 1 skipped: step"


def test_json_has_every_figure():
    written = json.loads(as_json([OK], {"d_in": 64, "device": "cpu"}))
    assert written["settings"] == {"d_in": 64, "device": "cpu"}
    assert written["findings"] == [{"name": "kernels", "state": "ok", "text": "cpu", "figures": {"rate": 2.0}}]
