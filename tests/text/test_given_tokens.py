"""Corpora of token ids and of chats: the tokens are those that were given, or those of the template."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distsae.errors import WrongInput
from distsae.language_model import load_language_model
from distsae.text import documents, pack
from distsae.text.encoding import DocumentEncoder
from distsae.text.given_tokens import ChatMessages, GivenTokens, document_of, without_half_pairs

TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
CHATS = [
    [{"role": "user", "content": "Why is it so?"}, {"role": "assistant", "content": "Because of that."}],
    [{"role": "user", "content": "And now?"}],
]
IDS = [[5, 6, 7, 8], [], [9, 10], [0, 279]]


@pytest.fixture
def tokenizer(tiny_model_dir):
    return load_language_model(str(tiny_model_dir)).tokenizer


def _file(folder, kind, field, values):
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table({field: values}), folder / "c.parquet")
        return str(folder / "c.parquet")
    (folder / "c.jsonl").write_text("".join(json.dumps({field: value}) + "\n" for value in values))
    return str(folder / "c.jsonl")


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_token_ids_are_taken_as_they_are(kind, tmp_path, tokenizer):
    texts = list(documents(_file(tmp_path, kind, "input_ids", IDS), text_field="input_ids"))
    eos = tokenizer.eos_token_id
    found = pack(texts, tokenizer, 3, prepend_bos=False)
    assert found.token_ids.flatten().tolist() == [5, 6, 7, 8, eos, 9, 10, eos, 0]
    assert found.document_id.flatten().tolist() == [0, 0, 0, 0, 0, 2, 2, 2, 3]


def test_a_document_that_ends_in_eos_gets_no_second_one(tokenizer):
    eos = tokenizer.eos_token_id
    found = pack([GivenTokens([5, eos]), GivenTokens([6, 7])], tokenizer, 5, prepend_bos=False)
    assert found.token_ids.tolist() == [[5, eos, 6, 7, eos]]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_chat_becomes_the_tokens_of_the_template(kind, tmp_path, tokenizer):
    tokenizer.chat_template = TEMPLATE
    texts = list(documents(_file(tmp_path, kind, "messages", CHATS), text_field="messages"))
    assert [text.split("\n")[0] for text in texts] == ["Why is it so?", "And now?"]
    encoded = DocumentEncoder(tokenizer).encode([*texts, "plain text"])
    for ids, chat in zip(encoded, CHATS, strict=False):
        assert tokenizer.decode(ids) == "".join(f"<|{one['role']}|>{one['content']}\n" for one in chat)
    assert encoded[2].tolist() == tokenizer("plain text", add_special_tokens=False)["input_ids"]


def test_chats_without_a_template_and_templates_that_refuse(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(WrongInput, match="`model` must have a tokenizer with a chat template"):
        DocumentEncoder(tokenizer).encode([ChatMessages(CHATS[0])])
    tokenizer.chat_template = "{{ raise_exception('roles must\nalternate') }}"
    with pytest.raises(WrongInput, match=r"that the tokenizer's chat template takes; got .*roles must alternate"):
        DocumentEncoder(tokenizer).encode([ChatMessages(CHATS[0])])


def test_ids_beyond_the_embedding(tokenizer):
    with pytest.raises(WrongInput, match="must have an embedding for every token of the text; got the token 9999"):
        DocumentEncoder(tokenizer, 280).encode([GivenTokens([3, 9999])])


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        [1, "a"],
        [1.5],
        [True],
        [-1],
        [2**31],
        [{"role": "user"}],
        [{"role": 1, "content": "x"}],
        {"a": 1},
        [[1]],
    ],
)
def test_other_values_are_no_document(value, tmp_path):
    assert document_of(value) is None
    file = _file(tmp_path, "jsonl", "text", [value])
    with pytest.raises(WrongInput, match=r"`text_field` \(=text\) must name a text, token ids or messages in every"):
        list(documents(file))


@given(ids=st.lists(st.integers(0, 2**31 - 1)))
def test_ids_are_kept_exactly(ids):
    document = document_of(ids)
    assert isinstance(document, GivenTokens)
    assert document.ids.dtype == np.int32
    assert document.ids.tolist() == ids
    assert bool(document) == bool(ids)


def test_half_of_a_pair_is_replaced_in_messages_too():
    mended = without_half_pairs(ChatMessages([{"role": "user", "content": "a\ud800b"}]))
    assert isinstance(mended, ChatMessages)
    assert mended.messages == [{"role": "user", "content": "a\ufffdb"}]
    assert without_half_pairs("a\ud800b") == "a\ufffdb"
    whole = GivenTokens([1])
    assert without_half_pairs(whole) is whole
