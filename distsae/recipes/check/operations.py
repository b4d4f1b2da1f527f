"""Whether the device computes what the kernels promise: their results, and the margin of the bf16 product."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.errors import WrongInput
from distsae.kernels import CPU, REFERENCE, Kernels, PrefilterRows, kernels_for, prefilter_tokens, ruled_out_to
from distsae.kernels.self_check import refuse_if_wrong
from distsae.recipes.check.finding import Finding
from distsae.seeds import torch_generator

__all__ = ["kernels_found", "margin_found", "margin_used"]

_FEATURES = 2048
_TOKENS = 512


def kernels_found(device: torch.device) -> Finding:
    """Compares every operation of a run's kernels with the plain version, on the device."""
    try:
        kernels = kernels_for("auto", device)
        refuse_if_wrong(kernels, device)
    except WrongInput as error:
        return Finding("kernels", "failed", str(error))
    if kernels is REFERENCE and device.type == "cuda":
        text = "only the plain version runs here (see the warning above), which is slower"
        return Finding("kernels", "failed", text, {"version": kernels.name})
    return Finding(
        "kernels", "ok", f"{kernels.name}: every operation agrees with the plain version", {"version": kernels.name}
    )


def margin_found(device: torch.device, d_in: int) -> Finding:
    """Compares the bf16 product that rules scores out with the scores in fp64, on the device.

    Rows of three kinds are tried: normal ones, ones with a few large numbers as language models have them, and ones
    that cancel, where a matrix unit that truncates what it adds is furthest off.
    """
    kernels = kernels_for("auto", device) if device.type == "cuda" else CPU
    used = {name: margin_used(kernels, *pair) for name, pair in _pairs(device, d_in).items()}
    worst = max(used, key=lambda name: used[name])
    figures = {f"margin_used_{name}": share for name, share in used.items()}
    if not used[worst] <= 1:
        text = f"a score exceeds its certified bound ({worst} rows): matches may be lost; train with `prefilter` none"
        return Finding("bf16 margin", "failed", text, figures)
    text = f"no score exceeds its certified bound; the closest uses {used[worst]:.0%} of the margin ({worst} rows)"
    return Finding("bf16 margin", "ok", text, figures)


def margin_used(kernels: Kernels, W_enc: Tensor, b_enc: Tensor, centred: Tensor) -> float:
    """Returns the largest share of the certified margin that a score uses; over 1 the certificate is broken.

    The share is `(score - middle) / (largest - middle)`: `middle` is the product of the rounded numbers, in fp64, with
    the bias; `largest` is the largest score that is not ruled out by the bound that the device computes.

    Args:
        kernels: kernels with the product.
        W_enc: encoder rows, fp32 `[features, d_in]`.
        b_enc: encoder biases, fp32 `[features]`.
        centred: activations minus `b_dec`, fp32 `[tokens, d_in]`.
    """
    features, d_in = W_enc.shape
    low = PrefilterRows(features, d_in, W_enc.device)
    low.refresh(0, W_enc, b_enc)
    columns = prefilter_tokens(centred)
    bound = torch.empty(features, centred.shape[0], dtype=torch.bfloat16, device=W_enc.device)
    kernels.upper_scores(low.rows, columns, bound)
    exact = torch.addmm(b_enc.double()[:, None], W_enc.double(), centred.double().t())
    middle = torch.addmm(b_enc.double()[:, None], low.rows[:, :d_in].double(), columns[:, :d_in].double().t())
    positive = exact > 0  # only positive scores can be selected
    if not bool(positive.any()):
        return 0.0
    exact = exact[positive]
    middle = middle[positive]
    bound = bound[positive]
    largest = bound.double() * float(1 / ruled_out_to(torch.ones(())))
    share = (exact - middle) / (largest - middle).clamp(min=torch.finfo(torch.float64).tiny)
    broken = bound <= ruled_out_to(exact)
    return float(torch.where(broken, share.clamp(min=1 + 1e-9), share.clamp(max=1.0)).max())


def _pairs(device: torch.device, d_in: int) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    generator = torch_generator(0, "check")

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    rows, tokens = normal(_FEATURES, d_in), normal(_TOKENS, d_in)
    bias = 0.1 * normal(_FEATURES)
    outlying = tokens.clone()
    outlying[:, :: max(d_in // 4, 1)] *= 100
    half = d_in // 2
    cancelling = torch.cat([tokens[:, :half], tokens[:, :half], tokens[:, 2 * half :]], 1)
    opposed = torch.cat([rows[:, :half], -rows[:, :half] * (1 + 2**-9), rows[:, 2 * half :]], 1)
    pairs = {
        "normal": (rows, bias, tokens),
        "outlier": (rows, bias, outlying),
        "cancelling": (opposed, bias, cancelling),
    }
    return {name: (a.to(device), b.to(device), c.to(device)) for name, (a, b, c) in pairs.items()}
