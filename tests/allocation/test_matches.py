"""Orders and the dense form of matches."""

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
    for place, (t, f) in enumerate(pairs):
        assert dense[t, f] == place + 1


def test_dense_keeps_double_precision():
    one = torch.zeros(1, dtype=torch.long)
    assert Matches(one, one, torch.tensor([1 / 3], dtype=torch.float64)).dense(1, 1).item() == 1 / 3
