"""A model in one GGUF file: a small Llama, written with the gguf package, read and hooked like any other."""

import json

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from distsae.errors import WrongInput
from distsae.language_model import capture, find_model, load_language_model

WIDTH, HEADS, LAYERS, INNER = 32, 2, 2, 64


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=280,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def file(model, tiny_model_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(280)
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * (len(tokens) - 1)])
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    writer.add_token_merges([" ".join(pair) for pair in definition["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(_gguf_name(name), _gguf_value(name, tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_name(name):
    for ours, theirs in {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers": "blk",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "post_attention_layernorm": "ffn_norm",
        "input_layernorm": "attn_norm",
    }.items():
        name = name.replace(ours, theirs)
    return name


def _gguf_value(name, tensor):
    """Rows of queries and keys are in another order there."""
    if "q_proj" in name or "k_proj" in name:
        tensor = tensor.reshape(HEADS, 2, WIDTH // HEADS // 2, WIDTH).swapaxes(1, 2).reshape(WIDTH, WIDTH)
    return tensor.numpy().astype(np.float32)


def test_activations_are_those_of_the_model(file, model, capsys):
    found = load_language_model(str(file))
    ids = torch.randint(0, 280, (2, 11), generator=torch.Generator().manual_seed(1))
    for hook in ("blocks.0.mlp_out", "blocks.1.resid_post"):
        expected = capture(model, [hook], ids)[hook]
        torch.testing.assert_close(capture(found.model, [hook], ids)[hook], expected, rtol=1e-4, atol=1e-5)
    assert (found.vocabulary, found.revision, found.code_digest) == (280, "local", None)
    assert "quantizing" not in capsys.readouterr().err


def test_the_tokenizer_comes_from_the_file(file, tiny_model_dir):
    files = find_model(str(file))
    plain = AutoTokenizer.from_pretrained(tiny_model_dir)
    text = "the river runs through the old town"
    assert files.tokenizer(text)["input_ids"] == plain(text)["input_ids"]
    assert files.gguf == "tiny.gguf"


def test_the_digest_is_that_of_the_file(file, tmp_path):
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(file.read_bytes())
    assert find_model(str(copy)).digest == find_model(str(file)).digest
    with copy.open("r+b") as opened:
        opened.seek(-4, 2)
        opened.write(b"\1\2\3\4")
    assert find_model(str(copy)).digest != find_model(str(file)).digest


@pytest.mark.parametrize("content", [b"", b"GGUF", b"text" * 100, b"GGUF\3\0\0\0" + bytes(500)])
def test_other_files_are_one_line(content, tmp_path):
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(WrongInput, match=r"`model` \(=.*a.gguf\) must be a GGUF file of a kind that") as error:
        find_model(str(tmp_path / "a.gguf"))
    assert "\n" not in str(error.value)
