import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from distsae.text import TokenText


@pytest.fixture
def byte_level(tiny_model_dir):
    return AutoTokenizer.from_pretrained(tiny_model_dir)


@pytest.mark.parametrize("text", ["the river runs.", "  two  spaces\nand a line", 'tabs\tand <b>tags</b> & "quotes"'])
def test_tokens_side_by_side_are_the_text(byte_level, text):
    assert "".join(TokenText(byte_level).of(byte_level(text).input_ids)) == text


def test_every_byte_of_the_alphabet():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({token: n for n, token in enumerate([*sorted(alphabet), "Ġa"])}, []))
    )
    shown = TokenText(tokenizer).of(range(256))
    expected = {bytes([byte]).decode("utf-8", errors="backslashreplace") for byte in range(256)}
    assert set(shown) == expected
    assert TokenText(tokenizer)[256] == " a"


def test_parts_of_a_character(byte_level):
    shown = TokenText(byte_level).of(byte_level("’").input_ids)
    assert "".join(shown) == "\\xe2\\x80\\x99"


def test_special_tokens_and_unknown_ids(byte_level):
    text = TokenText(byte_level)
    assert text[byte_level.eos_token_id] == "<|endoftext|>"
    assert text[10**6] == "⟨1000000⟩"
    assert TokenText(None).of([5, 0]) == ["⟨5⟩", "⟨0⟩"]


def test_spaces_and_bytes_of_other_tokenizers():
    vocabulary = {"<unk>": 0, "▁the": 1, "s": 2, "<0x0A>": 3, "<0xE2>": 4, "▁": 5}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>")), unk_token="<unk>"
    )
    assert TokenText(tokenizer).of(range(6)) == ["<unk>", " the", "s", "\n", "\\xe2", " "]
