import numpy as np
import pytest

from distsae.store import passages as passages_module
from distsae.store.passages import Passages


def _share(contexts, *others):
    passages = Passages(contexts)
    for other in others:
        passages.look_through(other)
    return passages.common_share()


@pytest.fixture
def tokens():
    return np.random.default_rng(0).integers(0, 8000, 200_000).astype(np.int32)


@pytest.mark.parametrize("length", [9, 16, 32, 64, 128, 500])
def test_equal_contexts_are_all_found_and_others_are_not(tokens, length):
    contexts = tokens[: len(tokens) // length * length].reshape(-1, length)
    assert _share(contexts, contexts) == 1
    assert _share(contexts, contexts[::-1]) == 1
    assert _share(contexts, (contexts + 1) % 8000) == 0
    assert _share(contexts) == 0
    quarter = len(contexts) // 4
    assert _share(contexts, contexts[:quarter]) == pytest.approx(0.25, abs=0.02)
    assert _share(contexts, contexts[:quarter], contexts[quarter:]) == 1


@pytest.mark.parametrize(("length", "least"), [(40, 0.5), (64, 0.85), (128, 0.9), (512, 1.0)])
@pytest.mark.parametrize("shift", [0.1, 0.3, 0.5])
def test_text_that_is_cut_at_other_places_is_found(tokens, length, least, shift):
    count = len(tokens) // length - 1
    contexts = tokens[: count * length].reshape(-1, length)
    moved = tokens[int(shift * length) :][: count * length].reshape(-1, length)
    assert _share(contexts, moved) >= least


@pytest.mark.parametrize("passage", [1, 2, 3, 8, 13, 31, 32])
def test_the_hash_of_a_passage_is_the_same_polynomial_everywhere(passage):
    tokens = np.random.default_rng(1).integers(0, 50_000, (3, 40))
    hashes = passages_module._hashes(tokens, passage)
    assert hashes.shape == (3, 41 - passage)
    for row in range(3):
        for start in range(41 - passage):
            alone = passages_module._hashes(tokens[row : row + 1, start : start + passage], passage)
            assert alone[0, 0] == hashes[row, start]
    assert len(np.unique(hashes)) == hashes.size


def test_nothing_is_known_of_no_contexts():
    none = np.empty((0, 32), np.int32)
    assert _share(none, none) == 0
    passages = Passages(np.arange(3200).reshape(-1, 32))
    passages.look_through(np.arange(3200).reshape(-1, 32))
    passages.forget()
    assert passages.common_share() == 0
