import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distsae.text.heldout_documents import choose_heldout, repeats


def _plain(lengths, digests, wanted, context):
    """Goes through the texts in the order of their digests, and takes each that fits."""
    left, chosen = wanted, set()
    for digest in sorted(set(digests)):
        tokens = sum(length for length, of in zip(lengths, digests, strict=True) if of == digest)
        if left > 0 and 0 < tokens < left + context:
            chosen.add(digest)
            left -= tokens
    return [digest in chosen for digest in digests]


@given(
    documents=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), max_size=60),
    wanted=st.integers(0, 500),
    context=st.integers(1, 40),
)
def test_texts_are_taken_in_the_order_of_their_digests_if_they_fit(documents, wanted, context):
    lengths, digests = ([d[i] for d in documents] for i in (0, 1))
    found = choose_heldout(np.array(lengths, np.int64), np.array(digests, np.uint64), wanted, context)
    assert found.tolist() == _plain(lengths, digests, wanted, context)


def test_the_amount_is_nearly_exact_and_copies_stay_together():
    draw = np.random.default_rng(0)
    lengths, digests = draw.integers(1, 2000, 5000), draw.integers(0, 2**64, 5000, dtype=np.uint64)
    digests[1000:2000] = digests[:1000]  # a fifth of the documents repeat
    chosen = choose_heldout(lengths, digests, 100_000, 128)
    assert 100_000 <= lengths[chosen].sum() < 100_128
    assert (chosen[1000:2000] == chosen[:1000]).all()


def test_the_choice_does_not_depend_on_where_documents_are():
    """Stores of one corpus hold out the same documents, also where it was shuffled or grew."""
    draw = np.random.default_rng(1)
    lengths, digests = draw.integers(1, 50, 2000), draw.integers(0, 2**64, 2000, dtype=np.uint64)
    chosen = set(digests[choose_heldout(lengths, digests, 1000, 20)].tolist())
    order = draw.permutation(2000)
    assert set(digests[order][choose_heldout(lengths[order], digests[order], 1000, 20)].tolist()) == chosen
    half = set(digests[:1000][choose_heldout(lengths[:1000], digests[:1000], 500, 20)].tolist())
    assert len(half - chosen) <= 0.3 * len(half)


def test_repeats_are_counted():
    lengths = np.array([5, 3, 0, 5, 5, 0], np.int64)
    digests = np.array([1, 2, 9, 1, 1, 9], np.uint64)
    assert repeats(lengths, digests) == (
        type(repeats(lengths, digests))(documents=2, of_documents=4, tokens=10, of_tokens=18)
    )
    assert repeats(lengths[:0], digests[:0]).documents == 0
