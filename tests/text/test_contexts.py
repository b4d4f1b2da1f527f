import tracemalloc

import pytest
import torch
from transformers import AutoTokenizer

from distsae import text as text_package
from distsae.errors import WrongInput
from distsae.text import cut_contexts, documents, pack
from distsae.text.tokens import MAX_DOCUMENTS, tokenised_documents


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir):
    return AutoTokenizer.from_pretrained(tiny_model_dir)


@pytest.fixture(scope="module")
def texts(tiny_corpus):
    return list(documents(str(tiny_corpus)))


def _stream(texts, tokenizer):
    """Returns all tokens of the texts, and the number of the document that each token belongs to."""
    tokens, numbers = [], []
    for number, text in enumerate(texts):
        if text:
            ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
            tokens += ids
            numbers += [number] * len(ids)
    return tokens, numbers


@pytest.mark.parametrize("prepend_bos", [True, False])
def test_every_token_is_kept_in_order_but_the_tail(texts, tokenizer, prepend_bos):
    contexts = pack(texts, tokenizer, 32, prepend_bos=prepend_bos)
    tokens, numbers = _stream(texts, tokenizer)
    text_length = 31 if prepend_bos else 32
    assert len(contexts) == len(tokens) // text_length
    assert contexts.token_ids.dtype == contexts.document_id.dtype == torch.int32
    token_ids = contexts.token_ids[:, 32 - text_length :].reshape(-1).tolist()
    assert token_ids == tokens[: len(token_ids)]
    document_id = contexts.document_id[:, 32 - text_length :].reshape(-1).tolist()
    assert document_id == numbers[: len(token_ids)]
    if prepend_bos:
        assert (contexts.token_ids[:, 0] == tokenizer.bos_token_id).all()
        assert (contexts.document_id[:, 0] == contexts.document_id[:, 1]).all()


def test_stops_reading_at_max_contexts(texts, tokenizer):
    read = []

    def counted():
        for number in range(100_000):
            read.append(number)
            yield texts[number % len(texts)]

    contexts = pack(counted(), tokenizer, 32, max_contexts=7)
    assert len(contexts) == 7
    assert len(read) < 2000
    torch.testing.assert_close(contexts.token_ids, pack(texts, tokenizer, 32).token_ids[:7])


def test_nothing_is_read_for_no_contexts(tokenizer):
    def unread():
        yield pytest.fail("nothing needs to be read")

    assert len(pack(unread(), tokenizer, 32, max_contexts=0)) == 0


@pytest.mark.parametrize("limits", [(1, 10**6), (3, 10**6), (10**6, 1), (10**6, 300)], ids=str)
@pytest.mark.parametrize("length", [2, 32, 5000])
def test_contexts_do_not_depend_on_the_batches_of_documents(texts, tokenizer, limits, length):
    expected = pack(texts, tokenizer, length)
    pieces = list(cut_contexts(texts, tokenizer, length, documents_at_once=limits[0], characters_at_once=limits[1]))
    assert all(len(piece) for piece in pieces)
    assert torch.equal(torch.cat([piece.token_ids for piece in pieces]), expected.token_ids)
    assert torch.equal(torch.cat([piece.document_id for piece in pieces]), expected.document_id)


def test_memory_does_not_grow_with_the_corpus(texts, tokenizer):
    def peak_memory(count):
        repeated = (texts[number % len(texts)] for number in range(count))
        tracemalloc.start()
        try:
            for piece in cut_contexts(repeated, tokenizer, 32, documents_at_once=50):
                assert len(piece)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_memory(200)  # warms up
    assert peak_memory(2000) < 1.5 * peak_memory(200)


def test_empty_documents_keep_their_number(tokenizer):
    contexts = pack(["", "the river", ""] + ["stone light house wind"] * 20, tokenizer, 8)
    assert contexts.document_id[0, 0] == 1
    assert 2 not in contexts.document_id
    assert len(pack([], tokenizer, 8)) == 0
    assert pack([], tokenizer, 8).token_ids.shape == (0, 8)
    assert len(pack([""] * 2000, tokenizer, 8)) == 0
    assert pack([*[""] * 2000, "the river " * 9], tokenizer, 8).document_id.unique().tolist() == [2000]


def test_a_document_spans_as_many_contexts_as_it_needs(tokenizer):
    long = "the river " * 500
    contexts = pack(["a stone", long, "a bird"], tokenizer, 16)
    ids = tokenizer.encode(long, add_special_tokens=False)
    assert len(ids) > 40 * 16
    assert contexts.token_ids[:, 1:][contexts.document_id[:, 1:] == 1].tolist() == [*ids, tokenizer.eos_token_id]
    numbers = contexts.document_id[:, 1:].flatten()
    assert (numbers.diff() >= 0).all()
    assert numbers.unique().tolist() == [0, 1, 2]


def test_documents_longer_than_the_model_give_no_warning(tokenizer, capfd):
    pack(["the river " * 5000], tokenizer, 32)
    assert "longer than" not in capfd.readouterr().err


def test_more_documents_than_there_are_numbers_are_refused(tokenizer):
    def cut(count, max_contexts=None):
        batches = tokenised_documents(["the river"] * count, tokenizer, max_documents=1000)
        stream = ((batch.token_ids, batch.document_id) for batch in batches)
        return list(text_package.cut(stream, text_package.ContextShape.of(tokenizer, 3, True), max_contexts))

    assert torch.iinfo(torch.int32).max == MAX_DOCUMENTS - 1
    assert cut(1000)[-1].document_id.max() == 999
    with pytest.raises(WrongInput, match="at most 1,000 documents"):
        cut(1001)
    cut(5000, max_contexts=200)  # documents that are not read are not counted


def test_missing_special_tokens_and_too_short_contexts_are_refused(tokenizer, tiny_model_dir):
    other = AutoTokenizer.from_pretrained(tiny_model_dir)
    other.bos_token = None
    with pytest.raises(WrongInput, match="prepend_bos"):
        pack(["a"], other, 8)
    other.eos_token = None
    with pytest.raises(WrongInput, match="EOS"):
        pack(["a"], other, 8, prepend_bos=False)
    with pytest.raises(WrongInput, match="context_length"):
        pack(["a"], tokenizer, 1)
