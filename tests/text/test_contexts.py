import tracemalloc

import pytest
import torch
from transformers import AutoTokenizer

from distsae.errors import WrongInput
from distsae.producer import documents, pack
from distsae.text import contexts as contexts_module
from distsae.text.contexts import cut_contexts


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir):
    return AutoTokenizer.from_pretrained(tiny_model_dir)


@pytest.fixture(scope="module")
def texts(tiny_corpus):
    return list(documents(str(tiny_corpus)))


def _stream(texts, tokenizer):
    tokens, owners = [], []
    for number, text in enumerate(texts):
        if text:
            ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
            tokens += ids
            owners += [number] * len(ids)
    return tokens, owners


@pytest.mark.parametrize("prepend_bos", [True, False])
def test_every_token_in_order_only_the_tail_is_dropped(texts, tokenizer, prepend_bos):
    contexts = pack(texts, tokenizer, 32, prepend_bos=prepend_bos)
    tokens, owners = _stream(texts, tokenizer)
    body = 31 if prepend_bos else 32
    assert len(contexts) == len(tokens) // body
    assert contexts.token_ids.dtype == contexts.document_id.dtype == torch.int32
    bare, documents_of = contexts.token_ids[:, 32 - body :], contexts.document_id[:, 32 - body :]
    assert bare.reshape(-1).tolist() == tokens[: bare.numel()]
    assert documents_of.reshape(-1).tolist() == owners[: bare.numel()]
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


def test_no_contexts_are_asked_for(tokenizer):
    def unread():
        raise AssertionError("nothing needs to be read")
        yield

    assert len(pack(unread(), tokenizer, 32, max_contexts=0)) == 0


@pytest.mark.parametrize("limits", [(1, 10**6), (3, 10**6), (10**6, 1), (10**6, 300)], ids=str)
@pytest.mark.parametrize("length", [2, 32, 5000])
def test_how_documents_are_batched_does_not_show(texts, tokenizer, monkeypatch, limits, length):
    expected = pack(texts, tokenizer, length)
    monkeypatch.setattr(contexts_module, "_DOCUMENTS_AT_ONCE", limits[0])
    monkeypatch.setattr(contexts_module, "_CHARACTERS_AT_ONCE", limits[1])
    pieces = list(cut_contexts(texts, tokenizer, length))
    assert all(len(piece) for piece in pieces)
    assert torch.equal(torch.cat([piece.token_ids for piece in pieces]), expected.token_ids)
    assert torch.equal(torch.cat([piece.document_id for piece in pieces]), expected.document_id)


def test_memory_does_not_grow_with_the_corpus(texts, tokenizer, monkeypatch):
    monkeypatch.setattr(contexts_module, "_DOCUMENTS_AT_ONCE", 50)

    def most_memory(count):
        tracemalloc.start()
        try:
            for piece in cut_contexts((texts[number % len(texts)] for number in range(count)), tokenizer, 32):
                assert len(piece)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    most_memory(200)
    assert most_memory(2000) < 1.5 * most_memory(200)


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
    owners = contexts.document_id[:, 1:].flatten()
    assert (owners.diff() >= 0).all()
    assert owners.unique().tolist() == [0, 1, 2]


def test_documents_longer_than_the_model_are_fine(tokenizer, capfd):
    pack(["the river " * 5000], tokenizer, 32)
    assert "longer than" not in capfd.readouterr().err


def test_a_document_without_a_number_is_refused(tokenizer, monkeypatch):
    assert torch.iinfo(torch.int32).max == contexts_module._MOST_DOCUMENTS - 1
    monkeypatch.setattr(contexts_module, "_MOST_DOCUMENTS", 1000)
    assert pack(["the river"] * 1000, tokenizer, 3).document_id.max() == 999
    with pytest.raises(WrongInput, match="at most 1,000 documents"):
        pack(["the river"] * 1001, tokenizer, 3)
    pack(["the river"] * 5000, tokenizer, 3, max_contexts=200)  # what is not needed is not counted


def test_missing_special_tokens_and_no_room(tokenizer, tiny_model_dir):
    other = AutoTokenizer.from_pretrained(tiny_model_dir)
    other.bos_token = None
    with pytest.raises(WrongInput, match="prepend_bos"):
        pack(["a"], other, 8)
    other.eos_token = None
    with pytest.raises(WrongInput, match="EOS"):
        pack(["a"], other, 8, prepend_bos=False)
    with pytest.raises(WrongInput, match="context_length"):
        pack(["a"], tokenizer, 1)
