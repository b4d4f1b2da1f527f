"""Wrong settings of a plan are one line."""

import pytest

from distsae.errors import WrongInput
from tests.planning.cluster.samples import plan_config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"d_in": None}, "`d_in` must be given"),
        ({"d_in": 0}, r"`d_in` \(=0\) must be at least 1"),
        ({"d_sae": 0}, r"`k` \(=32\) must be between 1 and `d_sae`"),
        ({"k": 0}, r"`k` \(=0\)"),
        ({"k": 1 << 21}, "use a smaller `k`"),
        ({"gpus": 0}, r"`gpus` \(=0\) must be at least 1"),
        ({"batch_tokens": 100}, "must be a positive multiple of 64"),
        ({"optimizer_state": "fp8"}, "must be one of"),
        ({"engine": "deepspeed", "optimizer_state": "int8"}, "must be fp32 with `engine` deepspeed"),
        ({"chunk_rows": 1 << 20}, "must be at most `unit_rows`"),
        ({"context_length": 1}, "must be at least 2"),
        ({"max_inodes": 0}, "must be at least 1"),
        ({"memory_gb": 0.0}, "must be positive"),
        ({"disk_gb_per_second": float("inf")}, "must be positive and finite"),
        ({"epochs": float("nan")}, "must be positive and finite"),
    ],
)
def test_wrong_settings(changes, words):
    with pytest.raises(WrongInput, match=words):
        plan_config(**changes)


def test_a_store_or_a_model_tells_the_width():
    assert plan_config(d_in=None, store="store").d_in is None
    assert plan_config(d_in=None, model="gpt2").d_in is None
