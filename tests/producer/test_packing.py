import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.producer.packing import HeldoutRule, contexts_to_hold_out, pack_documents, tokens_wanted
from distsae.text import ContextShape, TokenisedDocuments


def _documents(lengths, digests=None):
    """Returns documents whose tokens are all different."""
    return TokenisedDocuments(
        first=0,
        token_ids=np.arange(sum(lengths), dtype=np.int32),
        lengths=np.asarray(lengths, np.int64),
        digests=np.arange(len(lengths), dtype=np.uint64) if digests is None else np.asarray(digests, np.uint64),
    )


def _cut(documents, bounds):
    """Returns the same documents in parts."""
    ends = np.concatenate([[0], np.cumsum(documents.lengths)])
    edges = [0, *sorted(bounds), len(documents)]
    return [
        TokenisedDocuments(
            first=first,
            token_ids=documents.token_ids[ends[first] : ends[end]],
            lengths=documents.lengths[first:end],
            digests=documents.digests[first:end],
        )
        for first, end in itertools.pairwise(edges)
    ]


def _packed(tmp_path, parts, by="documents", share=0.1, most=1000, max_contexts=None, length=8, bos=-1):
    packed = pack_documents(
        lambda: iter(parts),
        tmp_path,
        ContextShape(length, bos),
        HeldoutRule(by=by, share=share, most=most),
        max_contexts,
    )
    return packed, np.load(tmp_path / "token_ids.npy"), np.load(tmp_path / "document_id.npy")


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=30, max_size=120),
    bounds=st.lists(st.integers(0, 30), max_size=4),
    share=st.sampled_from([0.05, 0.2, 0.5]),
    max_contexts=st.none() | st.integers(2, 100),
)
def test_no_document_is_on_both_sides_and_no_token_is_lost_but_at_ends(
    tmp_path_factory, lengths, bounds, share, max_contexts
):
    tmp_path = tmp_path_factory.mktemp("packed")
    documents = _documents(lengths, [n % 25 for n in range(len(lengths))])  # 25 texts, which repeat
    packed, token_ids, document_id = _packed(tmp_path, _cut(documents, bounds), share=share, max_contexts=max_contexts)
    again = _packed(tmp_path, [documents], share=share, max_contexts=max_contexts)
    assert again[0] == packed
    assert (again[1] == token_ids).all()
    assert packed.contexts == len(token_ids)
    assert (token_ids[:, 0] == -1).all()
    tokens, numbers = token_ids[:, 1:], document_id[:, 1:]
    assert len(np.unique(tokens)) == tokens.size
    assert (np.repeat(np.arange(len(lengths)), lengths)[tokens.flatten()] == numbers.flatten()).all()
    if max_contexts is not None:
        assert packed.contexts <= max_contexts
    if packed.heldout_by == "documents":
        train = packed.contexts - packed.heldout
        texts = [set((side % 25).flatten().tolist()) for side in (numbers[:train], numbers[train:])]
        assert not texts[0] & texts[1]
        wanted = max_contexts if max_contexts is not None else sum(lengths) // 7
        goal = contexts_to_hold_out(share, min(wanted, sum(lengths) // 7), 1000)
        assert goal / 2 <= packed.heldout <= goal
        for side in (tokens[:train], tokens[train:]):
            assert (np.diff(side.flatten()) > 0).all()  # in the order of the corpus


def test_the_held_out_share_is_exact_where_documents_allow_it(tmp_path):
    packed, *_ = _packed(tmp_path, [_documents([10] * 1000)], share=0.05, max_contexts=1000)
    assert (packed.contexts, packed.heldout, packed.heldout_by) == (1000, 50, "documents")
    packed, *_ = _packed(tmp_path, [_documents([10] * 1000)], share=0.05, most=7)
    assert packed.heldout == 7


@pytest.mark.parametrize("lengths", [[700], [400, 300], [350, 10, 340], [0, 700, 0]])
def test_of_too_few_documents_the_end_is_held_out(tmp_path, lengths):
    packed, token_ids, _ = _packed(tmp_path, [_documents(lengths)], share=0.1)
    assert (packed.contexts, packed.heldout, packed.heldout_by) == (100, 10, "end")
    assert (token_ids[:, 1:].flatten() == np.arange(700)).all()


def test_contexts_are_left_to_the_plan(tmp_path):
    packed, token_ids, _ = _packed(tmp_path, [_documents([20] * 50)], by="contexts", max_contexts=90)
    assert (packed.contexts, packed.heldout, packed.heldout_by) == (90, None, "contexts")
    assert (token_ids[:, 1:].flatten() == np.arange(630)).all()


def test_no_more_is_read_than_is_wanted(tmp_path):
    def read():
        for first in range(0, 1000, 10):
            if first > 100:
                raise AssertionError("it is not needed")
            yield TokenisedDocuments(
                first=first,
                token_ids=np.zeros(70, np.int32),
                lengths=np.full(10, 7),
                digests=np.arange(first, first + 10, dtype=np.uint64),
            )

    rule = HeldoutRule(by="documents", share=0.1, most=100)
    packed = pack_documents(read, tmp_path, ContextShape(8, 0), rule, 50)
    assert packed.contexts == 50
    assert tokens_wanted(50, rule, ContextShape(8, 0)) == 52 * 7
    assert tokens_wanted(50, HeldoutRule(by="contexts", share=0.1, most=100), ContextShape(8, None)) == 400
    assert tokens_wanted(None, rule, ContextShape(8, 0)) is None
