"""Random bits for rounding: uniform, independent, and the same for any split of the rows."""

import torch

from distsae.kernels.rounding_noise import RoundingNoise

ROWS, D_IN = 64, 48
EVERY = slice(None)


def _noise(first_row=0, rows=ROWS, name="W", seed=1):
    return RoundingNoise(name, torch.zeros(rows, D_IN), first_row, seed)


def test_both_numbers_of_an_element_are_uniform_and_not_alike():
    one, other = _noise().drawn(EVERY, 1)
    for drawn in (one, other):
        assert (drawn.min(), drawn.max()) >= (0, 0)
        assert drawn.max() < 1 << 16
        assert abs(drawn.double().mean() / (1 << 15) - 1) < 0.05
    assert float((one == other).float().mean()) < 0.01


def test_the_words_of_a_row_and_a_column_make_both_numbers():
    noise = _noise(first_row=5)
    row_words, column_words = noise.words(3)
    words = (row_words[:, None].long() + column_words.long()) & 0xFFFFFFFF
    one, other = noise.drawn(EVERY, 3)
    assert torch.equal(one.long(), words & 0xFFFF)
    assert torch.equal(other.long(), words >> 16)


def test_they_follow_from_the_global_row_the_step_the_name_and_the_seed():
    whole, _ = _noise().drawn(EVERY, 2)
    part = _noise(first_row=20, rows=10)
    assert torch.equal(part.drawn(slice(3, 7), 2)[0], whole[23:27])
    for other in (_noise().drawn(EVERY, 3), _noise(name="V").drawn(EVERY, 2), _noise(seed=2).drawn(EVERY, 2)):
        assert float((other[0] == whole).float().mean()) < 0.01
    part.drawn(EVERY, 9)
    assert torch.equal(part.drawn(EVERY, 2)[0], whole[20:30]), "a step before the last one"
