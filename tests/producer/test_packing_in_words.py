import re

import numpy as np
import pytest
import torch

from distsae.producer import ProduceConfig
from distsae.producer.packing import Packed
from distsae.producer.packing_in_words import packing_in_words
from distsae.text import Contexts, Repeats

CONFIG = ProduceConfig(model="m", corpus="C", hooks=("h",), out="o", context_length=32, max_rows=10**9)


def _lines(token_ids, *, skipped=0, repeats=(0, 90, 0, 3000), **packed):
    count = len(token_ids)
    found = {"contexts": count, "heldout_by": "documents", "heldout": count // 10, "documents": 90} | packed
    contexts = Contexts(token_ids=torch.from_numpy(token_ids), document_id=torch.zeros(count, 32, dtype=torch.int32))
    return list(packing_in_words(Packed(**found, repeats=Repeats(*repeats)), contexts, CONFIG, skipped))


@pytest.fixture
def tokens():
    return np.random.default_rng(0).integers(0, 5000, (100, 32)).astype(np.int32)


def test_nothing_is_said_of_ordinary_text(tokens):
    assert _lines(tokens) == []


def test_repeats_records_and_the_end_are_said(tokens):
    lines = _lines(tokens, skipped=3, repeats=(20, 90, 600, 3000), heldout_by="end", documents=2)
    assert lines[0] == "3 records without a text were left out of C"
    assert lines[1].startswith("20 of 90 documents (20% of the text) repeat an earlier one;")
    assert lines[2].startswith(
        "C has 2 documents, too few or too long to hold out 0.02 of it by documents: its last 10"
    )


def test_common_text_of_both_sides_is_said(tokens):
    tokens[-5:] = tokens[:5]
    found = re.match(r"(\d+)% of the held-out contexts have text in common with those", _lines(tokens)[-1])
    assert 40 <= int(found[1]) <= 60  # of those with a passage in the sample
    assert _lines(tokens, heldout=None, heldout_by="contexts") == []
