import pytest

from distsae.errors import WrongInput
from distsae.producer import ProduceConfig
from distsae.producer.config import check

GOOD = {"model": "m", "corpus": "c", "hooks": ("blocks.0.resid_post",), "out": "o"}


def test_max_rows_rounds_down_to_whole_contexts():
    assert ProduceConfig(**GOOD, context_length=128, max_rows=1000).max_contexts == 7
    assert ProduceConfig(**GOOD).max_contexts is None
    check(ProduceConfig(**GOOD))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hooks": ()}, "hooks"),
        ({"hooks": ("a", "a")}, "hooks"),
        ({"context_length": 1}, "context_length"),
        ({"excluded_positions": 128}, "excluded_positions"),
        ({"excluded_tokens": (4, 4)}, "excluded_tokens"),
        ({"excluded_tokens": (-1,)}, "excluded_tokens"),
        ({"heldout_share": 0.9}, "heldout_share"),
        ({"max_rows": 128}, "max_rows"),
        ({"unit_rows": 0}, "unit_rows"),
        ({"chunk_rows": 0}, "chunk_rows"),
        ({"batch_contexts": -1}, "batch_contexts"),
    ],
)
def test_settings_that_make_no_sense_are_named(change, named):
    with pytest.raises(WrongInput, match=f"^`{named}`"):
        check(ProduceConfig(**{**GOOD, **change}))
