"""SAEs that are exported in tests: every rule and normalisation, with thresholds that cut through the scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from distsae.allocation import zipf_quotas
from distsae.model import SAE, SAEConfig

D_IN = 12
D_SAE = 50
K = 5
RULES = ("token_choice", "mutual_choice", "feature_choice")
THRESHOLDS = {"mutual_choice": "one", "feature_choice": "each"}


def config(rule: str = "mutual_choice", **changes) -> SAEConfig:
    """Returns a config of the sample SAE."""
    cfg = SAEConfig(
        d_in=D_IN,
        d_sae=D_SAE,
        k=K,
        allocation=rule,
        hook_name="blocks.3.resid_post",
        hook_layer=3,
        model_name="tiny",
        context_size=16,
        prepend_bos=True,
        store_fingerprint="f" * 8,
        tokens_seen=1234,
        max_norm=77.25,
    )
    return replace(cfg, **changes)


def sample_sae(rule: str = "mutual_choice", seed: int = 0, **changes) -> SAE:
    """Returns an SAE with random weights; one threshold for all features under Mutual Choice, one each under Feature
    Choice.

    Args:
        rule: allocation rule.
        seed: seed of the weights.
        changes: fields of the config.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {
        "W_enc": torch.randn(D_IN, D_SAE, generator=generator),
        "W_dec": torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1),
        "b_enc": 0.1 * torch.randn(D_SAE, generator=generator),
        "b_dec": 0.5 * torch.randn(D_IN, generator=generator),
    }
    if rule == "mutual_choice":
        tensors["threshold"] = torch.full((D_SAE,), 2.7)
    if rule == "feature_choice":
        tensors["threshold"] = 2 + torch.rand(D_SAE, generator=generator)
        tensors["quota_per_token"] = zipf_quotas(D_SAE, K, s=0.8, q=3)
    return SAE(config(rule, **changes), **tensors)


def rows(count: int = 64, seed: int = 9) -> Tensor:
    """Returns random activations, of norms that differ."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, D_IN, generator=generator)
    return x * (0.5 + 3 * torch.rand(count, 1, generator=generator))


def refuse_differences(one: SAE, other: SAE) -> None:
    """Checks that two SAEs are the same, bit for bit."""
    assert one.cfg == other.cfg
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype, name
        assert torch.equal(tensor, second[name]), name


def files_in(folder: Path) -> list[str]:
    """Returns the names in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())
