"""Run folders as training and evaluation leave them, with plausible numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from distsae.allocation import fit_zipf


@pytest.fixture
def make_run(tmp_path):
    """Returns a function `make(name, allocation, evaluated=True, seed=0, **config)` that writes a run folder."""

    def make(name: str, allocation: str = "mutual_choice", *, evaluated: bool = True, seed: int = 0, **config) -> Path:
        folder = tmp_path / "runs" / name
        (folder / "sae").mkdir(parents=True)
        rng = np.random.default_rng(seed)
        settings = {
            "store": str(tmp_path / "gone"),
            "out": str(folder),
            "hook": "blocks.3.resid_post",
            "seed": seed,
            "steps": 500,
            "batch_tokens": 4096,
            "sae": {"d_sae": 512, "k": 16},
            "allocation": allocation,
            "aux": "aux_zipf",
            "quotas": "zipf",
            "finetune_fc_from": None,
            "mesh": {"data": 1, "feature": 2},
            "optimizer": {"lr": "auto"},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(settings | config))
        with (folder / "metrics.jsonl").open("w") as log:
            for step in range(10, 501, 10):
                log.write(json.dumps(_line(step, rng, allocation, config.get("finetune_fc_from"))) + "\n")
        (folder / "sae" / "config.json").write_text(
            json.dumps({"d_in": 256, "d_sae": 512, "allocation": allocation, "model_name": "gpt2-small-en"})
        )
        if evaluated:
            _evaluate(folder, rng, allocation, seed)
        return folder

    return make


@pytest.fixture
def as_older():
    """Returns a function that takes from a run's evaluation what older versions of distsae did not write."""

    def change(folder: Path) -> Path:
        content = json.loads((folder / "evaluation.json").read_text())
        for part in (content, content["frozen_rule"]):
            for name in ("relative_error", "fvu_unit_norm", "cosine", "kl"):
                part.pop(name, None)
                part.pop(f"{name}_ci95", None)
        for name in ("features_per_token_correlations", "max_norm", "rows_left_out", "left_out_share"):
            del content[name]
        del content["with_left_out_rows"]
        (folder / "evaluation.json").write_text(json.dumps(content))
        with np.load(folder / "evaluation.npz") as kept:
            arrays = {name: kept[name] for name in kept.files if name not in ("token_frequency", "norm")}
        np.savez(folder / "evaluation.npz", **arrays)
        return folder

    return change


def _line(step: int, rng: np.random.Generator, allocation: str, switch: float | None) -> dict[str, object]:
    fvu = 0.2 + 0.02 * len(allocation) / 14 + 0.8 * np.exp(-step / 60) + 0.004 * rng.normal()
    later = switch is not None and step > 500 * switch
    return {
        "step": step,
        "tokens": step * 4096,
        "loss": fvu,
        "fvu": fvu,
        "aux_loss": 0.9,
        "l0": 16.0,
        "dead_share": 0.05 * np.exp(-step / 200),
        "underutilised_share": 0.1 * np.exp(-step / 300),
        "threshold": None if allocation == "token_choice" else 1.2 - np.exp(-step / 50),
        "allocation": "feature_choice" if later else allocation,
        "lr": 1e-3,
        "grad_norm": 0.1,
        "tokens_per_second": 20_000.0 + 500 * rng.normal(),
        "seconds": step * 0.2,
    }


def _evaluate(folder: Path, rng: np.random.Generator, allocation: str, seed: int) -> None:
    rows, d_sae = 6000, 512
    loss = rng.gamma(2.0, 1.7, rows).astype(np.float32)
    loss[::127] = np.nan
    if allocation == "token_choice":
        found = np.full(rows, 16)
    else:
        found = rng.poisson(8 + 8 * np.nan_to_num(loss) / 3.4)
    density = (np.arange(1, d_sae + 1) + 5.0) ** -0.9 * rng.lognormal(0, 0.1, d_sae)
    density[-20:] *= 0.05
    density[-5:] = 0
    density *= found.mean() / density.sum()
    import torch

    fit = fit_zipf(torch.from_numpy(density))
    numbers = {
        "fvu": 0.21 + 0.01 * seed,
        "nmse": 0.18,
        "l0": float(found.mean()),
        "ce_clean": 3.4,
        "ce_spliced": 3.62,
        "ce_zero": 7.9,
        "ce_mean": 6.2,
        "loss_recovered_zero": 0.951 - 0.01 * seed,
        "loss_recovered_mean": 0.921,
        "relative_error": 0.43 + 0.01 * seed,
        "fvu_unit_norm": 0.22,
        "cosine": 0.9,
        "kl": 0.24 + 0.01 * seed,
        "features_per_token_std": float(found.std()),
    }
    result = {}
    for name, value in numbers.items():
        result |= {name: value, f"{name}_ci95": [value * 0.99, value * 1.01]}
    frozen = {"l0": numbers["l0"] + 0.4, "fvu": numbers["fvu"] + 0.004, "loss_recovered_zero": 0.945 - 0.01 * seed}
    frozen |= {f"{name}_gap": value - numbers[name] for name, value in frozen.items()}
    frozen |= {"relative_error": numbers["relative_error"] + 0.003, "kl": numbers["kl"] + 0.002}
    frozen |= {"fvu_ci95": [frozen["fvu"] * 0.99, frozen["fvu"] * 1.01]}
    result |= {
        "dead_share": 5 / d_sae,
        "underutilised_share": 20 / d_sae,
        "zipf_s": fit.s,
        "zipf_q": fit.q,
        "zipf_r_squared": fit.r_squared,
        "frozen_rule": frozen,
        "features_per_token_correlations": {
            "loss": 0.41,
            "frequency": -0.3,
            "position": 0.02,
            "norm": 0.55,
            "difficulty": 0.8,
            "loss_given_norm": 0.12 + 0.01 * seed,
        },
        "max_norm": 1350.0,
        "rows_left_out": 2,
        "left_out_share": 2 / (rows + 2),
        "with_left_out_rows": {"fvu": 0.5, "relative_error": 0.44, "loss_recovered_zero": 0.8 + 0.01 * seed},
        "all_positions": {"loss_recovered_zero": 0.93, "loss_recovered_zero_ci95": [0.92, 0.94]},
        "model": "gpt2-small-en",
        "hook": "blocks.3.resid_post",
        "corpus": "prose.jsonl",
        "split": "heldout",
        "rows": rows,
        "contexts": rows // 127,
        "variance": 250.0,
        "d_in": 256,
    }
    (folder / "evaluation.json").write_text(json.dumps(result))
    np.savez(
        folder / "evaluation.npz",
        density=density,
        zipf_predicted=fit.density(torch.arange(1, d_sae + 1)).numpy(),
        features_per_token=found.astype(np.int32),
        token_loss=loss,
        token_frequency=rng.zipf(1.5, rows),
        position=np.tile(np.arange(1, 128, dtype=np.int32), rows // 127 + 1)[:rows],
        norm=rng.lognormal(5, 0.3, rows).astype(np.float32),
        difficulty=rng.beta(2, 5, rows).astype(np.float32),
        squared_error=(250.0 * rng.gamma(4.0, 0.25 * numbers["fvu"], rows)).astype(np.float32),
    )
