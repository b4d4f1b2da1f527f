import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from distsae.errors import WrongInput
from distsae.text import pack
from distsae.text.encoding import DocumentEncoder


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir):
    return AutoTokenizer.from_pretrained(tiny_model_dir)


def _fast(model, split=None, **special):
    tokenizer = Tokenizer(model)
    if split is not None:
        tokenizer.pre_tokenizer = split
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def test_a_control_token_that_is_spelled_out_is_text(tokenizer):
    end = tokenizer.eos_token_id
    text = "the river <|endoftext|> bird"
    assert end in tokenizer.encode(text, add_special_tokens=False)
    (ids,) = DocumentEncoder(tokenizer).encode([text])
    assert end not in ids
    assert tokenizer.decode(ids) == text
    contexts = pack([text] * 50, tokenizer, 16, prepend_bos=False)
    assert (contexts.token_ids == end).sum() <= 50  # the one that ends each document
    assert (contexts.token_ids == end).sum() >= 40


def test_a_vocabulary_that_holds_the_spelling_gives_its_characters():
    """As vocabularies of sentencepiece do, whose control tokens are pieces like any other."""
    pieces = [("<unk>", -10.0), ("<s>", 0.0), ("</s>", 0.0), *((character, -5.0) for character in "<>/s abc")]
    tokenizer = _fast(models.Unigram(pieces, 0), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    (ids,) = DocumentEncoder(tokenizer).encode(["a</s>b<s>c"])
    assert tokenizer.convert_ids_to_tokens(ids) == list("a</s>b<s>c")


class _Strict:
    """Takes the options that tokenizers of mistral-common take; like them, it never reads a control token in a text."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, text, add_special_tokens, return_attention_mask, verbose, split_special_tokens=False, **others):
        if split_special_tokens or others:
            raise ValueError("`MistralCommonBackend` does not support `split_special_tokens`.")
        return self._tokenizer(text, add_special_tokens=add_special_tokens, verbose=verbose, split_special_tokens=True)


def test_a_tokenizer_that_refuses_options_is_called_without_them(tokenizer):
    text = "the river runs <|endoftext|> bird"
    (ids,) = DocumentEncoder(_Strict(tokenizer)).encode([text])
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == text
    plain = "the old house near the water"
    (strict,), (ordinary,) = (DocumentEncoder(kind).encode([plain]) for kind in (_Strict(tokenizer), tokenizer))
    assert strict.tolist() == ordinary.tolist()


def test_a_tokenizer_that_encodes_nothing_is_one_line(tokenizer):
    class Broken(_Strict):
        def __call__(self, *arguments, **options):
            raise NotImplementedError("no text,\nonly chats")

    with pytest.raises(WrongInput, match="tokenizer that encodes text; got NotImplementedError: no text, only"):
        DocumentEncoder(Broken(tokenizer))


def test_ordinary_text_is_encoded_as_ever(tokenizer, tiny_corpus):
    text = tiny_corpus.read_text(encoding="utf-8")[:2000]
    encoded = DocumentEncoder(tokenizer).encode([text, ""])
    assert [ids.tolist() for ids in encoded] == [tokenizer.encode(text, add_special_tokens=False), []]


def test_text_of_unknown_tokens_is_refused():
    words = {"[UNK]": 0, "the": 1, "[SEP]": 2}
    tokenizer = _fast(
        models.WordLevel(words, unk_token="[UNK]"), pre_tokenizers.Whitespace(), unk_token="[UNK]", eos_token="[SEP]"
    )
    with pytest.raises(WrongInput, match=r"got 80% unknown tokens \(\[UNK\]\); save the model's own tokenizer"):
        pack(["the bird in the river sings of old stones today"] * 5, tokenizer, 8, prepend_bos=False)
    pack(["the the the bird"] * 5, tokenizer, 8, prepend_bos=False)


def test_text_that_gives_no_tokens_is_refused():
    tokenizer = _fast(models.BPE({"z": 0, "</s>": 1}, []), eos_token="</s>")
    with pytest.raises(WrongInput, match=r"got 0 tokens of 1,900 characters"):
        pack(["the bird in the riv"] * 100, tokenizer, 8, prepend_bos=False)


def test_a_long_text_is_judged_before_its_end():
    tokenizer = _fast(models.BPE({"z": 0, "</s>": 1}, []), eos_token="</s>")
    read = []

    def endless():
        while True:
            read.append(1)
            yield "the bird " * 100

    with pytest.raises(WrongInput, match="0 tokens"):
        pack(endless(), tokenizer, 8, prepend_bos=False)
    assert len(read) < 3000


def test_a_token_without_an_embedding_is_one_line_and_one_that_no_text_has_is_harmless(tokenizer):
    count = len(tokenizer)
    largest = max(tokenizer.encode("the river stone", add_special_tokens=False))
    contexts = pack(["the river stone"] * 20, tokenizer, 8, vocabulary=largest + 1)
    assert contexts.token_ids.max() <= largest < count
    with pytest.raises(WrongInput, match=rf"got the token {largest} \(.*\) and {largest} embeddings"):
        pack(["the river stone"] * 20, tokenizer, 8, vocabulary=largest)


def test_an_end_token_without_an_embedding_is_one_line():
    tokenizer = _fast(models.BPE({"z": 0, "</s>": 1}, []), eos_token="</s>")
    with pytest.raises(WrongInput, match=r"got the token 1 \(</s>\) and 1 embeddings"):
        pack(["zz"], tokenizer, 8, prepend_bos=False, vocabulary=1)
