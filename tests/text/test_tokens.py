from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from distsae.errors import WrongInput
from distsae.text import tokens
from distsae.text.bad_records import NoText
from distsae.text.tokens import TokenisedDocuments, text_digest, tokenised_documents

TEXTS = ["the river", "", "a stone light", NoText(), "the  river\n", "house " * 40]


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir):
    return AutoTokenizer.from_pretrained(tiny_model_dir)


def _whole(texts, tokenizer, **options):
    return TokenisedDocuments.joined(list(tokenised_documents(texts, tokenizer, **options)))


def test_tokens_lengths_and_numbers_are_those_of_each_document(tokenizer):
    found = _whole(TEXTS, tokenizer, first=7)
    alone = [[*tokenizer.encode(t, add_special_tokens=False), tokenizer.eos_token_id] if t else [] for t in TEXTS]
    assert found.token_ids.tolist() == [token for ids in alone for token in ids]
    assert found.lengths.tolist() == list(map(len, alone))
    assert found.document_id.tolist() == [7 + n for n, ids in enumerate(alone) for _ in ids]
    assert (found.first, len(found), found.skipped) == (7, 6, 1)
    chosen = np.array([False, True, True, False, False, True])
    tokens, numbers = found.only(chosen)
    assert tokens.tolist() == alone[2] + alone[5]
    assert set(numbers.tolist()) == {9, 12}


@pytest.mark.parametrize("options", [{"documents_at_once": 1}, {"documents_at_once": 2}, {"characters_at_once": 10}])
def test_batches_follow_each_other_and_do_not_change_what_they_hold(tokenizer, options):
    whole, batches = _whole(TEXTS, tokenizer), list(tokenised_documents(TEXTS, tokenizer, **options))
    assert len(batches) >= 2
    assert [batch.first for batch in batches] == np.cumsum([0, *map(len, batches[:-1])]).tolist()
    joined = TokenisedDocuments.joined(batches)
    for name in ("token_ids", "lengths", "digests"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    assert joined.skipped == whole.skipped


@pytest.mark.parametrize("most", [1, 5, 12, 30, 10**6])
@pytest.mark.parametrize("at_once", [1, 512])
def test_reading_ends_with_the_last_token_that_is_wanted(tokenizer, most, at_once):
    whole = _whole(TEXTS, tokenizer)
    found = _whole(TEXTS, tokenizer, most_tokens=most, documents_at_once=at_once)
    assert found.token_ids.tolist() == whole.token_ids[:most].tolist()
    assert found.document_id.tolist() == whole.document_id[:most].tolist()
    assert found.lengths.sum() == len(found.token_ids)


def test_a_digest_is_that_of_the_words():
    assert text_digest("the  river\n") == text_digest("the river") != text_digest("The river")
    assert 0 <= text_digest("") < 2**64


@given(st.text(alphabet="ab \n\u2003", max_size=40), st.integers(1, 7))
def test_a_digest_is_the_same_in_parts(text, at_once):
    with mock.patch.object(tokens, "_CHARACTERS_AT_ONCE", at_once):
        in_parts = text_digest(text)
    assert in_parts == text_digest(" ".join(text.split()))


def test_no_text_gives_no_tokens(tokenizer):
    (batch,) = tokenised_documents(["", ""], tokenizer)
    assert (len(batch), batch.token_ids.tolist(), batch.document_id.tolist()) == (2, [], [])
    assert list(tokenised_documents([], tokenizer)) == []


def test_a_tokenizer_without_eos_is_refused(tiny_model_dir):
    other = AutoTokenizer.from_pretrained(tiny_model_dir)
    other.eos_token = None
    with pytest.raises(WrongInput, match="EOS"):
        tokenised_documents(["a"], other)


@given(lengths=st.lists(st.integers(0, 20), max_size=12), multiple=st.integers(1, 7))
def test_documents_cut_to_whole_contexts(lengths, multiple):
    sizes = np.asarray(lengths, np.int64)
    whole = TokenisedDocuments(
        first=3,
        token_ids=np.arange(sizes.sum(), dtype=np.int32),
        lengths=sizes,
        digests=np.zeros(len(sizes), np.uint64),
    )
    cut = whole.cut_to(multiple)
    parts = np.split(whole.token_ids, np.cumsum(sizes)[:-1]) if lengths else []
    expected = [token for part in parts for token in part[: len(part) // multiple * multiple].tolist()]
    assert cut.token_ids.tolist() == expected
    assert cut.lengths.tolist() == [length // multiple * multiple for length in lengths]
    assert cut.first == 3
