import pytest

from distsae.errors import WrongInput
from distsae.evaluation import EvaluateConfig


@pytest.mark.parametrize("name", ["max_tokens", "batch_contexts", "block_rows"])
def test_counts_must_be_positive(name):
    with pytest.raises(WrongInput, match=f"`{name}` .=0. must be at least 1"):
        EvaluateConfig(run="run", store="store", **{name: 0})


def test_out_must_be_json():
    with pytest.raises(WrongInput, match=r"must end in \.json"):
        EvaluateConfig(run="run", store="store", out="numbers.txt")
