"""Runs an evaluation from start to finish: opens its inputs, measures, summarises, writes the files."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import numpy as np
from torch import Tensor

from distsae import __version__
from distsae.durable import replace, replacing
from distsae.evaluation.config import EvaluateConfig
from distsae.evaluation.density import UNDERUTILISED_BELOW
from distsae.evaluation.inputs import Inputs, open_inputs
from distsae.evaluation.interventions import Ablated
from distsae.evaluation.measure import measure
from distsae.evaluation.measured import Measured
from distsae.evaluation.out_file import out_file
from distsae.evaluation.rank_correlation import RESAMPLES
from distsae.evaluation.summary import Json, arrays, headline
from distsae.model import needs_threshold
from distsae.store import Store

__all__ = ["evaluate"]


def evaluate(config: EvaluateConfig, shared: dict[str, Ablated] | None = None) -> tuple[Path, Json]:
    """Evaluates an SAE and writes `evaluation.json` and `evaluation.npz`, or `out` and its arrays.

    Args:
        config: what to evaluate, and how.
        shared: ablations of earlier evaluations, which are not repeated, and to which new ones are added. Start with an
            empty dict, and pass the same one to each evaluation.

    Returns:
        The path of the JSON file and its content.

    Raises:
        WrongInput: the SAE, store, model or text is missing, or they do not belong together; or `out` is a file that
            is no evaluation.
    """
    started = time.monotonic()
    out = out_file(config)
    inputs = open_inputs(config)
    out.parent.mkdir(parents=True, exist_ok=True)
    attributes = inputs.store.attributes
    model = f"{inputs.model.digest} {inputs.hook} {inputs.device}"
    measured = measure(
        inputs.sae,
        inputs.model.model,
        inputs.hook,
        inputs.token_ids,
        mean=_mean_of_kept_rows(inputs.store, inputs.hook, inputs.sae.cfg.max_norm),
        excluded_positions=attributes.excluded_positions,
        excluded_tokens=attributes.excluded_tokens,
        batch_contexts=config.batch_contexts,
        block_rows=config.block_rows,
        ablated=None if shared is None else shared.setdefault(model, {}),
    )
    result = headline(measured, config.seed)
    result |= _provenance(config, inputs, measured, time.monotonic() - started)
    kept = arrays(measured)
    # Always the same temporary name, so that what a killed process left is overwritten.
    unfinished = out.with_suffix(".npz.partial")
    with replacing(out.with_suffix(".npz"), unfinished) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **kept)  # type: ignore[arg-type]  # numpy's stub takes a keyword for a flag
    replace(out, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
    return out, result


def _mean_of_kept_rows(store: Store, hook: str, max_norm: float | None) -> Tensor:
    """Returns the mean of the store's rows up to `max_norm`; of all rows if the store cannot leave out so many.

    That is the case for a store without histograms of norms, and for one of a model with far larger norms.
    """
    norms = store.norms(hook)
    if max_norm is None or norms is None or max_norm < norms.least_limit:
        return store.statistics(hook).mean
    return store.statistics(hook, max_norm).mean


def _provenance(config: EvaluateConfig, inputs: Inputs, measured: Measured, seconds: float) -> Json:
    """Returns the part of `evaluation.json` that says what was evaluated, on what text, and by which rules."""
    attributes, cfg = inputs.store.attributes, inputs.sae.cfg
    contexts, length = inputs.token_ids.shape
    rows = len(measured.rows)
    block = -(-rows // measured.blocks)
    per_token = not needs_threshold(cfg.allocation)
    training = "every token keeps its own k" if per_token else f"one budget over a block of {block} shuffled rows"
    return {
        "sae": str(inputs.sae_path),
        "allocation": cfg.allocation,
        "k": cfg.k,
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        "max_norm": cfg.max_norm,
        "hook": inputs.hook,
        "model": inputs.model.name,
        "model_digest": inputs.model.digest,
        "corpus": config.corpus or attributes.corpus,
        "split": "corpus" if config.corpus else "heldout",
        "store": str(config.store),
        "store_fingerprint": inputs.store.fingerprint,
        "trained_on_this_store": cfg.store_fingerprint == inputs.store.fingerprint,
        "text_digest": hashlib.sha256(inputs.token_ids.numpy().tobytes()).hexdigest(),
        "contexts": contexts,
        "context_length": length,
        "tokens": contexts * length,
        "rows": rows,
        "predictions": int(measured.sums["predictions"].sum()),
        "excluded_positions": attributes.excluded_positions,
        "excluded_tokens": list(attributes.excluded_tokens),
        "block_rows": block,
        "rules": {
            "headline": f"training rule: {training}",
            "frozen_rule": "the same as the training rule" if per_token else "fixed thresholds, row by row",
            "left_out": "rows over max_norm: neither spliced nor counted, but in with_left_out_rows and all_positions",
            "with_left_out_rows": "frozen rule",
            "all_positions": "frozen rule, every position spliced and predicted from, the excluded first ones too",
            "mean_ablation": "mean activation of the store's training rows, without those over max_norm",
            "underutilised": f"density below {UNDERUTILISED_BELOW} of the Zipf fit at the feature's rank",
            "ci95": f"bootstrap over contexts, 1000 resamples; {RESAMPLES}, each ranked anew, for rank correlations",
        },
        "seed": config.seed,
        "device": str(inputs.device),
        "seconds": round(seconds, 3),
        "distsae_version": __version__,
    }
