"""A checkpoint that is whole, with facts that no run has saved."""

from pathlib import Path

import pytest

from distsae.errors import TornData
from distsae.training.folder.saved_facts import check_saved_facts
from distsae.training.metrics import METER_FACTS

FACTS = {
    "store_fingerprint": "f",
    "config": {"sae": {"k": 2}},
    "switch_step": None,
    "underused": {"share": 0.5, "zipf_s": None},
    "meter": dict.fromkeys(METER_FACTS, 0.0),
    "later": {"a": [1]},
}


def test_facts_of_a_run_and_of_an_older_one_are_accepted():
    check_saved_facts(FACTS, Path("c"))
    more = {"alarms": ["x"], "init_scale": 0.5, "forecasts": {"rule": {"cut": 0.1}, "auxiliary": {"room": None}}}
    check_saved_facts({**FACTS, **more}, Path("c"))


@pytest.mark.parametrize("name", ["store_fingerprint", "config", "switch_step", "underused", "meter"])
def test_a_missing_fact_is_named(name):
    facts = {key: value for key, value in FACTS.items() if key != name}
    with pytest.raises(TornData, match=f"c is not the checkpoint of a run: `facts.{name}` is missing"):
        check_saved_facts(facts, Path("c"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": "x"}, "`facts.config` must be an object; got 'x'"),
        ({"switch_step": "3"}, "`facts.switch_step` must be a whole number; got '3'"),
        ({"underused": {"members": 1.0}}, "`facts.underused` must have the numbers of a run; got 'members'"),
        ({"meter": {"steps": 1}}, "`facts.meter.matches` is missing"),
        ({"meter": {**FACTS["meter"], "loss": None}}, "`facts.meter.loss` must be a number; got None"),
        ({"forecasts": {"rule": 1}}, "`facts.forecasts.rule` must be an object; got 1"),
        ({"alarms": [[1]]}, "`facts.alarms.0` must be text; got list of 1"),
    ],
)
def test_a_fact_of_another_type_is_named(changes, words):
    with pytest.raises(TornData, match=words):
        check_saved_facts({**FACTS, **changes}, Path("c"))
