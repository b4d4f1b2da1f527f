"""What a trained SAE is and where it came from: the content of its `config.json`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Self

from distsae.checked_files import Between
from distsae.errors import WrongInput
from distsae.model.training_rule import AllocationName, needs_threshold

__all__ = ["NORMALISATIONS", "SAEConfig"]

NORMALISATIONS = ("none", "scale", "centre", "token", "unit")
"""Normalisations that an SAE may have been trained with: those of `distsae train`, and `unit` of peers, a mean
square norm of 1."""


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """What a trained SAE is and where it came from.

    Args:
        d_in: width of the activations.
        d_sae: number of features.
        k: mean matches per token.
        allocation: allocation rule at the end of training.
        hook_name: hook of the activations.
        hook_layer: layer number of the hook; None for a module path without one.
        model_name: name of the language model.
        context_size: number of tokens in a context; 0 if it is not known.
        prepend_bos: whether contexts begin with the BOS token.
        dtype: dtype of the weights.
        store_fingerprint: identity of the activation store used in training.
        tokens_seen: number of training tokens.
        normalise: normalisation of the activations in training. It is folded into the weights, which work on raw
            activations; but with `token` the SAE normalises each row.
        normalisation_scale: factor that activations were multiplied by in training.
        max_norm: norm of raw activations over which rows were left out of training, calibration and measurement; None
            if none were.
        excluded_positions: positions at the start of each context whose rows it was not trained on.
        excluded_tokens: ids of tokens whose rows it was not trained on.
        model_revision: commit of the model's repository, or `local`; empty if it is not known.
        model_digest: sha256 of the model's weights and configuration; empty if it is not known.
        tokenizer_digest: sha256 of the tokenizer's definition; empty if it is not known.
        init_scale: factor between the encoder and decoder rows that training started with; None if it started with the
            weights of an SAE.
        distsae_version: version of distsae that wrote the SAE.

    Raises:
        WrongInput: there are fewer features than matches per token, or the normalisation is unknown.
    """

    d_in: Annotated[int, Between(1)]
    d_sae: Annotated[int, Between(1)]
    k: Annotated[int, Between(1)]
    allocation: AllocationName
    hook_name: str
    hook_layer: int | None
    model_name: str
    context_size: Annotated[int, Between(0)]
    prepend_bos: bool
    dtype: str = "float32"
    store_fingerprint: str = ""
    tokens_seen: Annotated[int, Between(0)] = 0
    normalise: str = "none"
    normalisation_scale: Annotated[float, Between(0)] = 1.0
    max_norm: Annotated[float, Between(0)] | None = None
    excluded_positions: Annotated[int, Between(0)] = 0
    excluded_tokens: tuple[Annotated[int, Between(0)], ...] = ()
    model_revision: str = ""
    model_digest: str = ""
    tokenizer_digest: str = ""
    init_scale: float | None = None
    distsae_version: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.d_sae:
            raise WrongInput(f"`k` (={self.k}) must be between 1 and `d_sae` (={self.d_sae}); use a smaller k")
        if self.normalise not in NORMALISATIONS:
            raise WrongInput(
                f"`normalise` (={self.normalise}) must be one of {', '.join(NORMALISATIONS)}; use the version of "
                "distsae that wrote the SAE"
            )

    @classmethod
    def of_unknown_origin(cls, d_in: int, d_sae: int, k: int, allocation: AllocationName) -> Self:
        """Returns the config of an SAE of which neither hook nor model are known."""
        return cls(
            d_in=d_in,
            d_sae=d_sae,
            k=k,
            allocation=allocation,
            hook_name="",
            hook_layer=None,
            model_name="",
            context_size=0,
            prepend_bos=False,
        )

    @property
    def architecture(self) -> str:
        """Kind of SAE by its frozen rule: `topk` or `jumprelu`."""
        return "jumprelu" if needs_threshold(self.allocation) else "topk"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields and the architecture as plain values."""
        values = {**dataclasses.asdict(self), "excluded_tokens": list(self.excluded_tokens)}
        return {**values, "architecture": self.architecture}
