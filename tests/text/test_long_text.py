"""A long text has the tokens that one call of the tokenizer gives, whatever the kind of tokenizer."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from distsae.text import long_text
from distsae.text.encoding import DocumentEncoder
from distsae.text.long_text import encode_long


def _prose(characters, seed=0):
    draw = random.Random(seed)
    words = ["".join(draw.choice("abcdefghiklmnoprstuvwyé日") for _ in range(draw.randint(1, 9))) for _ in range(400)]
    ends = [" ", " ", " ", "  ", "\n", ", ", ". ", "\n\n", " 12345 ", "\t", "'s "]
    return "".join(draw.choice(words) + draw.choice(ends) for _ in range(characters // 5))[:characters]


def _trained(model, trainer, split, normalizer=None):
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([_prose(60_000, seed) for seed in range(3)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def kinds():
    special = ["<unk>", "</s>"]
    byte_level = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    return {
        "byte-level BPE": _trained(models.BPE(), byte_level, pre_tokenizers.ByteLevel(add_prefix_space=False)),
        "BPE of sentencepiece": _trained(
            models.BPE(unk_token="<unk>"),
            trainers.BpeTrainer(vocab_size=600, special_tokens=special),
            pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
        ),
        "unigram": _trained(
            models.Unigram(),
            trainers.UnigramTrainer(vocab_size=500, special_tokens=special, unk_token="<unk>"),
            pre_tokenizers.Metaspace(),
            normalizers.NFKC(),
        ),
        "words": _trained(
            models.WordPiece(unk_token="<unk>"),
            trainers.WordPieceTrainer(vocab_size=600, special_tokens=special),
            pre_tokenizers.BertPreTokenizer(),
            normalizers.BertNormalizer(),
        ),
    }


KINDS = ["byte-level BPE", "BPE of sentencepiece", "unigram", "words"]


def _at_once(tokenizer, text):
    return np.asarray(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"], np.int32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("window", "overlap"), [(4000, 600), (1500, 1500), (9000, 10)])
def test_tokens_are_those_of_one_call(kinds, kind, window, overlap):
    text = _prose(30_000, seed=9)
    ids, characters = encode_long(kinds[kind], text, window, overlap)
    np.testing.assert_array_equal(ids, _at_once(kinds[kind], text))
    assert characters == len(text)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from(
            ["a" * 700, " " * 500, "\n" * 300, "12" * 400, "é" * 300, "日本" * 200, "the ", "cat. ", "</s>"]
        ),
        min_size=1,
        max_size=40,
    ),
    window=st.integers(50, 3000),
    overlap=st.integers(1, 400),
)
def test_a_text_without_places_to_cut_is_the_same_too(kinds, kind, pieces, window, overlap):
    text = "".join(pieces)
    ids, characters = encode_long(kinds[kind], text, window, overlap)
    np.testing.assert_array_equal(ids, _at_once(kinds[kind], text))
    assert characters == len(text)


def test_no_more_than_a_window_is_encoded_at_once(kinds, monkeypatch):
    sizes = []
    encode = long_text._encode

    def noted(tokenizer, text, start, end):
        sizes.append(end - start)
        return encode(tokenizer, text, start, end)

    monkeypatch.setattr(long_text, "_encode", noted)
    encode_long(kinds["byte-level BPE"], _prose(200_000), 20_000, 1000)
    assert max(sizes) == 20_000
    assert sum(sizes) < 220_000


@pytest.mark.parametrize("most", [1, 3000, 10**6])
def test_the_rest_is_left_once_there_are_enough_tokens(kinds, most):
    text = _prose(100_000)
    tokenizer = kinds["byte-level BPE"]
    (whole, _), (found, characters) = (encode_long(tokenizer, text, 5000, 500, most=limit) for limit in (None, most))
    assert len(found) >= min(most, len(whole))
    assert len(found) < most + 8000
    np.testing.assert_array_equal(found, whole[: len(found)])
    np.testing.assert_array_equal(_at_once(tokenizer, text[:characters])[:-2], found[:-2])


def test_a_text_of_which_little_is_wanted_is_known_text(kinds, monkeypatch):
    """The tokenizer is judged by the characters that it got."""
    monkeypatch.setattr("distsae.text.encoding.WINDOW", 2000)
    monkeypatch.setattr("distsae.text.long_text.WINDOW", 2000)
    encoder = DocumentEncoder(kinds["byte-level BPE"])
    (ids,) = encoder.encode([_prose(1_500_000)], most=50)
    encoder.check()
    assert 50 <= len(ids) < 5000


def test_documents_are_encoded_so(kinds, monkeypatch):
    tokenizer = kinds["byte-level BPE"]
    texts = ["the cat", _prose(9000), "a </s> b" * 500]
    expected = [ids.tolist() for ids in DocumentEncoder(tokenizer).encode(texts)]
    for module in ("distsae.text.encoding.WINDOW", "distsae.text.long_text.WINDOW"):
        monkeypatch.setattr(module, 2000)
    assert [ids.tolist() for ids in DocumentEncoder(tokenizer).encode(texts)] == expected
