"""What is kept of two parts together is what would have been kept of both at once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distsae.reporting.features.firing_contexts import FiringContexts, sample_order

MATCHES = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 5)), st.integers(1, 3), max_size=80
)


def _firing(matches, keep=lambda context: True):
    rows = sorted(key for key in matches if keep(key[1]))
    feature, context, position = (np.asarray([row[column] for row in rows], np.int64) for column in range(3))
    score = np.asarray([matches[row] for row in rows], np.float32)
    return FiringContexts.of_matches(feature, context, position, score, context_id=context // 2, document_id=position)


def _plain(firing, feature):
    """(context, activations by position) of a feature, by context."""
    return [
        (
            int(firing.context[pair]),
            dict(
                zip(
                    firing.act_position[firing.start[pair] : firing.start[pair + 1]].tolist(),
                    firing.act[firing.start[pair] : firing.start[pair + 1]].tolist(),
                    strict=True,
                )
            ),
        )
        for pair in np.flatnonzero(firing.feature == feature)
    ]


@given(MATCHES, st.integers(0, 3), st.integers(0, 3))
def test_parts_together_keep_what_the_whole_keeps(matches, top, sampled):
    whole = _firing(matches)
    parts = [_firing(matches, lambda context, own=own: context % 3 == own) for own in range(3)]
    kept = [part.picked(np.union1d(part.top(top), part.sample(sampled))) for part in parts]
    joined = FiringContexts.joined(kept)
    for rule, most in (("top", top), ("sample", sampled)):
        of_whole, of_parts = (f.picked(getattr(f, rule)(most)) for f in (whole, joined))
        for feature in range(4):
            assert _plain(of_whole, feature) == _plain(of_parts, feature)


@given(MATCHES)
def test_groups_and_their_peaks(matches):
    firing = _firing(matches)
    for feature in range(4):
        contexts = sorted({key[1] for key in matches if key[0] == feature})
        assert _plain(firing, feature) == [
            (c, {k[2]: float(v) for k, v in sorted(matches.items()) if k[:2] == (feature, c)}) for c in contexts
        ]
    for pair in range(len(firing)):
        own = {k[2]: v for k, v in matches.items() if k[:2] == (firing.feature[pair], firing.context[pair])}
        assert firing.peak[pair] == max(own.values())
        assert firing.position[pair] == min(position for position, act in own.items() if act == max(own.values()))
        assert firing.document_id[pair] == firing.position[pair]


def test_the_sample_is_uniform():
    """Each context of 200 is among the 50 first of a feature about equally often: within 5 deviations of a binomial."""
    feature, context = (array.reshape(-1) for array in np.mgrid[0:2000, 0:200])
    order = sample_order(feature, context).reshape(2000, 200)
    chosen = np.argsort(order, axis=1)[:, :50]
    counts = np.bincount(chosen.reshape(-1), minlength=200)
    assert abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)
