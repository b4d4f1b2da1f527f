"""The model that is part of distsae has learned English: it predicts better than token frequencies alone."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distsae.recipes import embedded_model
from distsae.recipes.embedded_corpus import is_validation
from distsae.recipes.train_embedded_model import next_token_loss, unigram_entropy
from distsae.text import pack


@pytest.fixture(scope="module")
def loaded():
    model = AutoModelForCausalLM.from_pretrained(embedded_model(), dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(embedded_model())


def test_it_is_small_and_complete():
    files = {path.name: path.stat().st_size for path in embedded_model().iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(files)
    assert sum(files.values()) <= 5_000_000


def test_it_is_a_gpt2_of_128_positions_with_endoftext(loaded):
    model, tokenizer = loaded
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert model.config.n_positions == 128
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == model.config.bos_token_id
    assert tokenizer.bos_token == "<|endoftext|>"
    assert len(tokenizer) == model.config.vocab_size


def test_held_out_loss_is_two_nats_under_the_unigram_entropy(loaded, corpus):
    model, tokenizer = loaded
    held_out = (document for document in corpus if is_validation(document))
    token_ids = pack(held_out, tokenizer, 128).token_ids.long()[::2]
    assert token_ids.numel() >= 20_000
    loss, entropy = next_token_loss(model, token_ids), unigram_entropy(token_ids, len(tokenizer))
    assert loss < entropy - 2.0
