"""Orders, joins, picks and the dense form of matches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import Matches
from tests.allocation.samples import modest

_pairs = st.sets(st.tuples(st.integers(0, 9), st.integers(0, 12)), max_size=40)


@modest
@given(_pairs.flatmap(lambda pairs: st.permutations(sorted(pairs))))
def test_orders(pairs):
    token, feature = (torch.tensor([pair[i] for pair in pairs], dtype=torch.long) for i in (0, 1))
    matches = Matches(token, feature, torch.arange(1.0, len(pairs) + 1))
    by_token, by_feature = matches.by_token(), matches.by_feature()
    assert list(zip(by_token.token.tolist(), by_token.feature.tolist(), strict=True)) == sorted(pairs)
    flipped = sorted((feature, token) for token, feature in pairs)
    assert list(zip(by_feature.feature.tolist(), by_feature.token.tolist(), strict=True)) == flipped
    dense = matches.dense(10, 13)
    for sorted_matches in (by_token, by_feature):
        assert torch.equal(sorted_matches.dense(10, 13), dense)
        assert len(sorted_matches) == len(pairs)
    assert int((dense != 0).sum()) == len(pairs)
    for index, (t, f) in enumerate(pairs):
        assert dense[t, f] == index + 1


def _part(*triples):
    token, feature, score = zip(*triples, strict=True) if triples else ((), (), ())
    return Matches(torch.tensor(token, dtype=torch.long), torch.tensor(feature, dtype=torch.long), torch.tensor(score))


def _triples(matches):
    return list(zip(matches.token.tolist(), matches.feature.tolist(), matches.score.tolist(), strict=True))


def test_joined_keeps_the_order_of_the_parts_and_within_them():
    parts = [_part((1, 7, 3.0), (0, 8, 1.0)), _part(), _part((0, 2, 5.0))]
    assert _triples(Matches.joined(parts)) == [(1, 7, 3.0), (0, 8, 1.0), (0, 2, 5.0)]
    assert _triples(Matches.joined(parts, [0, 4, 10])) == [(1, 7, 3.0), (0, 8, 1.0), (10, 2, 5.0)]
    assert _triples(parts[2]) == [(0, 2, 5.0)]  # not changed


def test_joined_wants_an_offset_for_every_part():
    with pytest.raises(ValueError, match="zip"):
        Matches.joined([_part((0, 0, 1.0)), _part((0, 0, 1.0))], [0])


def test_picked_by_index_and_by_mask():
    matches = _part((0, 1, 1.0), (2, 3, 2.0), (4, 5, 3.0))
    assert _triples(matches.picked(torch.tensor([2, 0]))) == [(4, 5, 3.0), (0, 1, 1.0)]
    assert _triples(matches.picked(torch.tensor([False, True, False]))) == [(2, 3, 2.0)]


def test_dense_keeps_double_precision():
    zero = torch.zeros(1, dtype=torch.long)
    assert Matches(zero, zero, torch.tensor([1 / 3], dtype=torch.float64)).dense(1, 1).item() == 1 / 3
