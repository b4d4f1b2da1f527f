"""What `store info` shows of norms is what the summary says, in words and as JSON."""

import json

import torch

from distsae.cli.store_norms import norm_facts, norm_lines
from distsae.store import NormHistogram, NormSummary


def _summary(acts):
    position = torch.arange(len(acts)) % 10
    return NormSummary(NormHistogram.of(acts, position, 100 + torch.arange(len(acts)) % 7))


def _outliers():
    acts = torch.ones(1000, 4)
    acts[1::10] *= 50.0
    acts[8] *= 60.0
    return _summary(acts)


def test_facts_are_those_of_the_summary():
    norms = _outliers()
    facts = norm_facts(norms)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["median"] == norms.median
    assert list(facts["quantiles"]) == ["0.01", "0.25", "0.5", "0.75", "0.99", "0.999", "0.9999", "1"]
    assert facts["top_variance_shares"] == {
        "0.0001": norms.top_variance_share(0.0001),
        "0.001": norms.top_variance_share(0.001),
        "0.01": norms.top_variance_share(0.01),
    }
    assert facts["mean_over_rms"] == norms.mean_over_rms
    limit = norms.limit(10)
    assert facts["outliers"] == {
        "ratio": 10.0,
        "limit": limit,
        "rows": 101,
        "variance_share": norms.share_of_variance_over(limit),
        "positions": [[1, 100], [8, 1]],
        "token_ids": [list(count) for count in norms.tokens_over(limit)],
    }


def test_lines_for_people():
    lines = norm_lines("blocks.1.mlp_out", _outliers(), "stores/a")
    assert lines[0] == "norms of blocks.1.mlp_out"
    shown = {line[2:25].strip(): line[26:] for line in lines[1:]}
    assert 1.91 < float(shown["median"]) <= 2.0
    assert ", 99.9% " in shown["quantiles"]
    assert ", largest at most 12" in shown["quantiles"]
    assert shown["share of the variance"].startswith("of the largest 0.01% of rows 0.1")
    assert shown["over 10 x median"] == "101 rows, 90% of the variance"
    assert shown["at positions"] == "1 (100), 8 (1)"
    assert shown["of token ids"].endswith(", ...")
    assert shown["of token ids"].count("(") == 5


def test_without_outliers_there_is_nothing_to_place():
    lines = norm_lines("c", _summary(torch.ones(20, 2)), "stores/a")
    assert not any("positions" in line or "token" in line for line in lines)
    assert lines[-1].endswith("0 rows, 0% of the variance")
    facts = norm_facts(_summary(torch.zeros(20, 2)))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["outliers"]["limit"] is None


def test_a_store_that_was_not_measured():
    assert norm_facts(None) is None
    assert norm_lines("c", None, "stores/a") == ["norms of c: not measured; run `distsae store measure stores/a`"]
