"""The pass against dense activations: every part alone, and all parts added up."""

import numpy as np
import pytest

from distsae.reporting.features.part_pass import PassSettings, part_result
from distsae.reporting.features.part_result import read_pairs, read_slice
from distsae.reporting.features.plan import parts_of
from distsae.store import UnitContexts
from tests.reporting.features.dense import D_SAE, HOOK, Dense, whole_sae, whole_store

SETTINGS = PassSettings(hook=HOOK, top_contexts=3, sampled_contexts=4, correlation_contexts=7)


def _results(store, sae, folder, split, max_rows, part_rows, settings=SETTINGS):
    paths = []
    for part in parts_of(store, split, max_rows, part_rows):
        paths.append(folder / f"{part.number}.safetensors")
        part_result(sae, store, UnitContexts.read(store, part.unit), part, settings).save(paths[-1])
    return paths


CASES = {
    "one part a unit": {},
    "several parts a unit": {"part_rows": 24},
    "a context a part": {"part_rows": 1},
    "the first contexts": {"max_rows": 130, "part_rows": 40},
    "one context": {"max_rows": 3},
    "held out": {"split": "heldout", "part_rows": 40, "store": {"heldout_contexts": 15}},
    "excluded tokens": {"store": {"excluded_tokens": (3, 11, 20)}},
    "several excluded positions": {"store": {"excluded_positions": 3}},
    "a limit of the norm": {"sae": {"max_norm": 52.0}},
    "small chunks": {"store": {"chunk_rows": 5}, "part_rows": 24},
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_as_dense(tmp_path, case):
    given = {"split": "train", "max_rows": 10**6, "part_rows": 10**6, "store": {}, "sae": {}} | CASES[case]
    store = whole_store(tmp_path / "store", **given["store"])
    sae = whole_sae(seed=len(case), **given["sae"])
    dense = Dense(store, sae, given["split"], given["max_rows"])
    paths = _results(store, sae, tmp_path, given["split"], given["max_rows"], given["part_rows"])
    middle = D_SAE // 2
    for first, last in ((0, middle), (middle, D_SAE)):
        found = read_slice(paths, first, last)
        assert found.rows == dense.rows
        _compare(found, dense, first, last)
    _compare_pairs(read_pairs(paths), dense, store)
    if case != "one context":
        assert sum(len(dense.firing(feature)) > 4 for feature in range(D_SAE)) > 20


def _compare(found, dense, first, last):
    fires = dense.acts[..., first:last].reshape(-1, last - first)
    assert np.array_equal(found.count, (fires > 0).sum(0))
    assert np.array_equal(found.total, fires.astype(np.float64).sum(0))
    for feature in range(first, last):
        own = found.bin_feature == feature
        counts = {}
        for number, count in zip(found.bin[own].tolist(), found.bin_count[own].tolist(), strict=True):
            counts[number] = counts.get(number, 0) + count
        assert counts == dense.histogram(feature)
    for chosen, expected in ((found.kept.top(3), dense.top), (found.kept.sample(4), dense.sample)):
        kept = found.kept.picked(chosen)
        for feature in range(first, last):
            own = np.flatnonzero(kept.feature == feature)
            most = 3 if expected == dense.top else 4
            assert kept.context[own].tolist() == expected(feature, most)
            for pair in own:
                acts = dense.acts[kept.context[pair], :, feature]
                stop = slice(kept.start[pair], kept.start[pair + 1])
                assert np.array_equal(kept.act_position[stop], np.flatnonzero(acts))
                assert np.array_equal(kept.act[stop], acts[acts > 0])
                assert (kept.peak[pair], kept.position[pair]) == (acts.max(), acts.argmax())
                assert kept.context_id[pair] == dense.context_id[kept.context[pair]]
                assert kept.document_id[pair] == dense.documents[kept.context[pair], acts.argmax()]


def _compare_pairs(pairs, dense, store):
    rows, row, feature = pairs
    length = store.attributes.context_length
    fires = dense.acts[:7].reshape(-1, D_SAE) > 0
    assert rows == dense.kept[:7].sum()
    assert len(row) == len(set(zip(row.tolist(), feature.tolist(), strict=True))) == fires.sum()
    assert bool((dense.acts[row // length, row % length, feature] > 0).all())


def test_a_token_choice_sae(tmp_path):
    store, sae = whole_store(tmp_path / "store"), whole_sae(allocation="token_choice", k=2)
    sae.threshold = None
    found = read_slice(_results(store, sae, tmp_path, "train", 10**6, 40), 0, D_SAE)
    assert 0 < found.count.sum() <= 2 * found.rows
