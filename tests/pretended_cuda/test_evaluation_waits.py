"""How often the CPU waits for a GPU while an SAE is evaluated: per forward pass of the model, and per block."""

from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM

from distsae.evaluation.measure import measure
from distsae.model import SAE, FeatureShard
from tests.pretended_cuda.device_guard import load_device_guard
from tests.pretended_cuda.ledger import LEDGER
from tests.pretended_cuda.pretending import pretended_cuda
from tests.pretended_cuda.tensors import CUDA

HOOK, D_IN, CONTEXTS = "blocks.0.resid_post", 32, 12

PER_PASS = {"evaluation/spliced_model.py": 7}
"""Waits for each further set of contexts that pass through the model: those inside transformers, in all its runs."""


@pytest.fixture(scope="module")
def waits(tiny_model_dir):
    """Waits by file, for so many contexts in a pass."""
    load_device_guard()
    shard = FeatureShard(D_IN, 64, range(64), torch.zeros(D_IN), 0)
    sae = SAE.from_shard(shard, k=4, allocation="mutual_choice", threshold=torch.full((64,), 0.5))
    token_ids = torch.randint(280, (CONTEXTS, 16), generator=torch.Generator().manual_seed(0))

    def counted(batch_contexts):
        with pretended_cuda():
            model = AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval().to(CUDA)
            LEDGER.clear()
            measure(
                sae.to(CUDA),
                model,
                HOOK,
                token_ids,
                mean=torch.zeros(D_IN),
                excluded_positions=0,
                batch_contexts=batch_contexts,
                block_rows=1 << 20,
            )
            found = Counter()
            for place, number in LEDGER.waited_at.items():
                found[place.split(":")[0]] += number
            return found

    return counted


def test_a_further_pass_waits_only_inside_the_model(waits):
    one, three = waits(CONTEXTS), waits(CONTEXTS // 3)
    assert {file: (three[file] - one[file]) / 2 for file in three if three[file] != one[file]} == PER_PASS
