"""What a peer's own trainer must do; these tests run where the peer's package is installed."""

from __future__ import annotations

import torch

D_IN = 8
D_SAE = 32
STEPS = 30


def job(variant: str = "") -> dict[str, object]:
    """Returns a job as the worker gives it to `build`."""
    return {
        "d_in": D_IN,
        "d_sae": D_SAE,
        "k": 4,
        "lr": 3e-3,
        "steps": STEPS,
        "batch_tokens": 256,
        "seed": 0,
        "device": "cpu",
        "variant": variant,
        "options": {},
    }


def check_trainer(trainer) -> None:
    """Trains on sparse mixtures: the error falls, and the weights have the agreed shapes."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, D_IN, generator=generator), dim=1)
    errors = []
    for _ in range(STEPS):
        on = torch.rand(256, 24, generator=generator) < 0.1
        errors.append(trainer.step((on * torch.rand(256, 24, generator=generator)) @ directions))
    assert sum(errors[-5:]) < 0.8 * sum(errors[:5])
    weights = trainer.weights()
    assert weights["W_enc"].shape == (D_IN, D_SAE)
    assert weights["W_dec"].shape == (D_SAE, D_IN)
    assert weights["b_enc"].shape == (D_SAE,)
    assert weights["b_dec"].shape == (D_IN,)
    assert trainer.facts
