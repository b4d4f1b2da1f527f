"""The working memory of a step follows the batch, not the width; that of the end is in the right memory."""

import pytest

from distsae.parallel import MeshConfig
from distsae.planning.work import end_items, step_items
from tests.planning.samples import FACTS, GPU, run

CHUNK, CANDIDATES = "a chunk of scores and selection from it", "candidates for the matches"
BATCH, GRADIENTS = "the batch: centred, reconstructed, gradients", "DeepSpeed: dense gradients, three times"


def _step(config, facts=FACTS, features=4096):
    return {item.name: item.bytes for item in step_items(config, facts, features)}


def test_a_chunk_keeps_its_target_whatever_the_width():
    narrow, wide = (_step(run(d_sae), features=d_sae)[CHUNK] for d_sae in (1 << 17, 1 << 22))
    assert narrow == wide
    assert 64 << 20 < narrow <= 128 << 20
    assert _step(run(1 << 17, selection_mb=16), features=1 << 17)[CHUNK] <= 16 << 20


@pytest.mark.parametrize(("changes", "item"), [({"aux": "none"}, CANDIDATES), ({"aux": "none"}, BATCH)])
def test_the_auxiliary_loss_costs(changes, item):
    assert _step(run(**changes))[item] < _step(run())[item]


def test_micro_batches_have_smaller_budgets():
    assert _step(run(accumulation=4))[CANDIDATES] == _step(run())[CANDIDATES] / 4


def test_gathered_gradients_are_of_the_global_batch():
    one, two = (_step(run(batch_tokens=4096 * ranks, mesh=MeshConfig(data=ranks)))[BATCH] for ranks in (1, 8))
    assert two > 2 * one  # as many tokens a rank


def test_only_deepspeed_has_dense_gradients():
    assert GRADIENTS not in _step(run())
    dense = _step(run(engine="deepspeed", mesh=MeshConfig(data=2)))[GRADIENTS]
    assert dense == 3 * 2 * 4 * 4096 * FACTS.d_in


def test_the_finished_sae_is_on_the_main_process_and_whole():
    config = run(mesh=MeshConfig(feature=4))
    (whole,) = [item for item in end_items(config, GPU, 1024) if item.main_only]
    assert whole.where == "host"
    assert whole.bytes >= 2 * 4 * 4096 * GPU.d_in


def test_token_choice_calibrates_nothing():
    assert sum(i.bytes for i in end_items(run(allocation="token_choice"), FACTS, 4096) if "candidates" in i.name) == 0
