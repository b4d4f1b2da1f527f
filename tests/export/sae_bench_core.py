"""SAEBench's core evaluation of an exported SAE: `PYTHON sae_bench_core.py FOLDER MODEL TEXT`.

It is run by an interpreter that has sae-bench, sae-lens and transformer-lens, and imports nothing of distsae. FOLDER is
an SAE in the files of SAELens, MODEL the folder of its GPT-2 or Llama, TEXT a JSONL file of documents. Nothing is
fetched.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from hooked_model import hooked
from sae_bench.evals.core.main import CoreEvalConfig, run_evals
from sae_bench.sae_bench_utils.general_utils import load_and_format_sae
from sae_lens import SAE, ActivationsStore

CONTEXT = 128
BATCH = 8


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
    main(*sys.argv[1:])
