import pytest
import torch
from transformers import AutoTokenizer

from distsae.errors import WrongInput
from distsae.producer import documents, pack


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


def test_empty_documents_keep_their_number(tokenizer):
    contexts = pack(["", "the river", ""] + ["stone light house wind"] * 20, tokenizer, 8)
    assert contexts.document_id[0, 0] == 1
    assert 2 not in contexts.document_id
    assert len(pack([], tokenizer, 8)) == 0
    assert pack([], tokenizer, 8).token_ids.shape == (0, 8)


def test_documents_longer_than_the_model_are_fine(tokenizer, capfd):
    pack(["the river " * 5000], tokenizer, 32)
    assert "longer than" not in capfd.readouterr().err


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
