"""SAEBench's core evaluation of an exported SAE: `PYTHON sae_bench_core.py FOLDER MODEL TEXT`.

It is run by an interpreter that has sae-bench, sae-lens and transformer-lens, and imports nothing of distsae. FOLDER is
an SAE in the files of SAELens, MODEL the folder of its GPT-2, TEXT a JSONL file of documents. Nothing is fetched: the
weights of the model are put into a HookedTransformer here, and compared with transformers first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from sae_bench.evals.core.main import CoreEvalConfig, run_evals
from sae_bench.sae_bench_utils.general_utils import load_and_format_sae
from sae_lens import SAE, ActivationsStore
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import AutoModelForCausalLM, AutoTokenizer

CONTEXT = 128
BATCH = 8


def hooked(folder: str) -> HookedTransformer:
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sizes = theirs.config
    cfg = HookedTransformerConfig(
        n_layers=sizes.n_layer,
        d_model=sizes.n_embd,
        n_heads=sizes.n_head,
        d_head=sizes.n_embd // sizes.n_head,
        d_mlp=4 * sizes.n_embd,
        d_vocab=sizes.vocab_size,
        n_ctx=sizes.n_positions,
        act_fn="gelu_new",
        normalization_type="LN",
        eps=sizes.layer_norm_epsilon,
        device="cpu",
        original_architecture="GPT2LMHeadModel",
        tokenizer_prepends_bos=False,
    )
    model = HookedTransformer(cfg, tokenizer=tokenizer)
    model.load_state_dict(convert_gpt2_weights(theirs, cfg), strict=False)
    with torch.no_grad():
        tokens = tokenizer("Miners were lured west with the promise of good jobs.", return_tensors="pt").input_ids
        difference = (model(tokens).log_softmax(-1) - theirs(tokens).logits.log_softmax(-1)).abs().max()
    assert difference < 1e-3, f"the model was not carried over: log probabilities differ by {float(difference)}"
    return model


def main(folder: str, model_folder: str, text: str) -> None:
    model = hooked(model_folder)
    _, sae, _ = load_and_format_sae("exported", SAE.load_from_disk(folder), "cpu")
    texts = [json.loads(line)["text"] for line in Path(text).read_text().splitlines()]
    store = ActivationsStore(
        model=model,
        dataset=Dataset.from_dict({"text": texts}),
        streaming=False,
        hook_name=sae.cfg.hook_name,
        hook_head_index=None,
        context_size=CONTEXT,
        d_in=sae.cfg.d_in,
        n_batches_in_buffer=4,
        total_training_tokens=CONTEXT * BATCH,
        store_batch_size_prompts=BATCH,
        train_batch_size_tokens=CONTEXT * BATCH,
        prepend_bos=sae.cfg.prepend_bos,
        normalize_activations="none",
        device=torch.device("cpu"),
        dtype="float32",
    )
    config = CoreEvalConfig(
        model_name=sae.cfg.model_name,
        batch_size_prompts=BATCH,
        n_eval_reconstruction_batches=8,
        n_eval_sparsity_variance_batches=16,
        exclude_special_tokens_from_reconstruction=True,
        compute_kl=True,
        compute_ce_loss=True,
        compute_l2_norms=True,
        compute_sparsity_metrics=True,
        compute_variance_metrics=True,
        compute_featurewise_density_statistics=True,
        compute_featurewise_weight_based_metrics=True,
    )
    special = {model.tokenizer.bos_token_id, model.tokenizer.eos_token_id}
    found, _ = run_evals(sae, store, model, config, ignore_tokens=special)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules must not pass for packages of that name
    main(*sys.argv[1:])
