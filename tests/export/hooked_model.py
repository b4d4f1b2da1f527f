"""A local GPT-2 or Llama in TransformerLens, for scripts that an interpreter with sae-bench runs; nothing is fetched.

It imports nothing of distsae. The weights are put into a HookedTransformer here, and compared with transformers first.
"""

from __future__ import annotations

from typing import Any

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights, convert_llama_weights
from transformers import AutoModelForCausalLM, AutoTokenizer


def hooked(folder: str) -> HookedTransformer:
    """Returns the model in a folder that `save_pretrained` wrote, with its tokenizer, in fp32 on the CPU."""
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    kind = type(theirs).__name__
    sizes, convert = {
        "GPT2LMHeadModel": (_gpt2, convert_gpt2_weights),
        "LlamaForCausalLM": (_llama, convert_llama_weights),
    }[kind]
    cfg = HookedTransformerConfig(
        **sizes(theirs.config),
        d_vocab=theirs.config.vocab_size,
        device="cpu",
        original_architecture=kind,
        tokenizer_prepends_bos=False,
    )
    model = HookedTransformer(cfg, tokenizer=tokenizer)
    model.load_state_dict(convert(theirs, cfg), strict=False)
    with torch.no_grad():
        tokens = tokenizer("Miners were lured west with the promise of good jobs.", return_tensors="pt").input_ids
        difference = (model(tokens).log_softmax(-1) - theirs(tokens).logits.log_softmax(-1)).abs().max()
    assert difference < 1e-3, f"the model was not carried over: log probabilities differ by {float(difference)}"
    return model


def _gpt2(config: Any) -> dict[str, Any]:
    return {
        "n_layers": config.n_layer,
        "d_model": config.n_embd,
        "n_heads": config.n_head,
        "d_head": config.n_embd // config.n_head,
        "d_mlp": 4 * config.n_embd,
        "n_ctx": config.n_positions,
        "act_fn": "gelu_new",
        "normalization_type": "LN",
        "eps": config.layer_norm_epsilon,
    }


def _llama(config: Any) -> dict[str, Any]:
    grouped = config.num_key_value_heads != config.num_attention_heads
    return {
        "n_layers": config.num_hidden_layers,
        "d_model": config.hidden_size,
        "n_heads": config.num_attention_heads,
        "d_head": config.head_dim,
        "d_mlp": config.intermediate_size,
        "n_ctx": 512,  # of its positions; masks of all of them would take memory
        "act_fn": config.hidden_act,
        "n_key_value_heads": config.num_key_value_heads if grouped else None,
        "normalization_type": "RMS",
        "eps": config.rms_norm_eps,
        "positional_embedding_type": "rotary",
        "rotary_adjacent_pairs": False,
        "rotary_dim": config.head_dim,
        "rotary_base": int(config.rope_parameters["rope_theta"]),
        "final_rms": True,
        "gated_mlp": True,
    }
