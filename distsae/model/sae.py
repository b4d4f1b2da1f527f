"""The public SAE: frozen, on raw activations, in the field's orientation.

Batch-dependent rules cannot be deployed, so a trained SAE carries a frozen rule as well: Token Choice keeps the `k`
largest scores of a token, Mutual and Feature Choice keep what exceeds a threshold, one for all features or one
each (a JumpReLU SAE).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from distsae.allocation import FeatureSelector, Matches, Placement, QuotaCredit, Selector, ThresholdSelector, select
from distsae.durable import replace, sync
from distsae.errors import CannotContinue, TornData, WrongInput
from distsae.kernels import kernels_for
from distsae.model.batch_rule import AllocationName, batch_selector
from distsae.model.feature_shard import score_chunks

__all__ = ["SAE", "SAEConfig"]

_CONFIG, _WEIGHTS = "config.json", "sae.safetensors"


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """What a trained SAE is and where it came from.

    Args:
        d_in: width of the activations.
        d_sae: number of features.
        k: mean matches per token.
        allocation: the rule it was trained with, at the end of training.
        hook_name: hook of the activations.
        hook_layer: layer number of the hook, or None for a module path without one.
        model_name: language model.
        context_size: tokens in a context.
        prepend_bos: whether contexts begin with the BOS token.
        dtype: of the weights.
        store_fingerprint: identity of the store it was trained on.
        tokens_seen: training tokens.
        normalise: what was done to activations in training; it is folded into the weights, which are for raw ones.
        normalisation_scale: what activations were multiplied with in training.
        distsae_version: version that wrote it.
    """

    d_in: int
    d_sae: int
    k: int
    allocation: AllocationName
    hook_name: str
    hook_layer: int | None
    model_name: str
    context_size: int
    prepend_bos: bool
    dtype: str = "float32"
    store_fingerprint: str = ""
    tokens_seen: int = 0
    normalise: str = "none"
    normalisation_scale: float = 1.0
    distsae_version: str = ""

    @property
    def architecture(self) -> str:
        """The kind of SAE that the frozen rule makes it: `topk` or `jumprelu`."""
        return "topk" if self.allocation == "token_choice" else "jumprelu"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields and the architecture as plain values."""
        return {**dataclasses.asdict(self), "architecture": self.architecture}


class SAE(nn.Module):
    """A sparse autoencoder on raw activations: `x_hat = encode(x) @ W_dec + b_dec`.

    Args:
        cfg: what it is.
        W_enc: `[d_in, d_sae]`.
        W_dec: `[d_sae, d_in]`, rows of unit norm.
        b_enc: `[d_sae]`.
        b_dec: `[d_in]`; subtracted from the input before encoding.
        threshold: smallest score that fires, exclusive, `[d_sae]`; None for Token Choice.
        quota_per_token: Feature Choice: matches per token that each feature is entitled to, `[d_sae]`, sums to `k`.
    """

    def __init__(
        self,
        cfg: SAEConfig,
        W_enc: Tensor,
        W_dec: Tensor,
        b_enc: Tensor,
        b_dec: Tensor,
        threshold: Tensor | None = None,
        quota_per_token: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.cfg = cfg
        expected = {
            "W_enc": (cfg.d_in, cfg.d_sae),
            "W_dec": (cfg.d_sae, cfg.d_in),
            "b_enc": (cfg.d_sae,),
            "b_dec": (cfg.d_in,),
            "threshold": (cfg.d_sae,),
            "quota_per_token": (cfg.d_sae,),
        }
        given = (W_enc, W_dec, b_enc, b_dec, threshold, quota_per_token)
        for (name, shape), tensor in zip(expected.items(), given, strict=True):
            if tensor is not None and tuple(tensor.shape) != shape:
                raise WrongInput(f"`{name}` must have shape {shape}; got {tuple(tensor.shape)}")
        if cfg.allocation != "token_choice" and threshold is None:
            raise WrongInput(f"`threshold` must be given for `allocation` (={cfg.allocation})")
        self.W_enc, self.W_dec = nn.Parameter(W_enc), nn.Parameter(W_dec)
        self.b_enc, self.b_dec = nn.Parameter(b_enc), nn.Parameter(b_dec)
        self.threshold: Tensor | None
        self.quota_per_token: Tensor | None
        self.register_buffer("threshold", threshold)
        self.register_buffer("quota_per_token", quota_per_token)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.W_enc.device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return self.W_enc.dtype

    def encode(self, x: Tensor) -> Tensor:
        """Returns `feature_acts` `[..., d_sae]` of activations `[..., d_in]` under the frozen rule, zeros included."""
        pre_acts = (x - self.b_dec) @ self.W_enc + self.b_enc
        if self.threshold is not None:
            return pre_acts.relu() * (pre_acts > self.threshold)
        top = pre_acts.relu().topk(self.cfg.k, dim=-1)
        return torch.zeros_like(pre_acts).scatter(-1, top.indices, top.values)

    def decode(self, feature_acts: Tensor) -> Tensor:
        """Returns the reconstruction `[..., d_in]` of `feature_acts` `[..., d_sae]`."""
        return feature_acts @ self.W_dec + self.b_dec

    def forward(self, x: Tensor) -> Tensor:
        """Returns the reconstruction of activations `[..., d_in]` under the frozen rule."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def matches(self, x: Tensor, rule: Literal["frozen", "training"] = "frozen") -> Matches:
        """Selects the matches of a batch without ever holding `tokens x d_sae`.

        Args:
            x: activations `[tokens, d_in]`.
            rule: `"frozen"`, or `"training"`: the batch rule with these tokens as the global batch. For Token
                Choice the two are the same.

        Returns:
            Matches sorted by token, then feature.
        """
        tokens, centred = x.shape[0], (x - self.b_dec).float()
        if rule == "frozen" and self.threshold is not None:
            selector: Selector = ThresholdSelector(self.threshold)
        else:
            selector = self._training_selector(tokens)
        (found,) = select(
            [selector],
            lambda: score_chunks(self.W_enc.t(), self.b_enc, centred),
            Placement.solo(self.cfg.d_sae),
            tokens,
        )
        return found.by_token()

    @torch.no_grad()
    def decode_matches(self, matches: Matches, tokens: int) -> Tensor:
        """Returns the reconstruction `[tokens, d_in]` from matches sorted by token."""
        return kernels_for("auto", self.device).decode(matches, self.W_dec.detach(), tokens) + self.b_dec

    def save(self, folder: str | Path) -> None:
        """Writes `sae.safetensors` and then `config.json` into `folder`; a crash leaves no half-written file.

        Raises:
            CannotContinue: it cannot be written, on a full disk for example.
        """
        folder = Path(folder)
        weights = folder / f".{_WEIGHTS}.tmp"  # one name: a killed one's leftover is written over
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file({name: t.contiguous() for name, t in self.state_dict().items()}, weights)
            sync(weights)
            weights.replace(folder / _WEIGHTS)
            replace(folder / _CONFIG, f"{json.dumps(self.cfg.to_dict(), indent=2)}\n".encode())
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                weights.unlink(missing_ok=True)
            raise CannotContinue(f"the SAE could not be written into {folder} ({error}); make room there") from error

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> SAE:
        """Reads an SAE from its folder, or from the folder of the run that trained it.

        Raises:
            WrongInput: there is no SAE.
            TornData: a file is damaged.
        """
        folder = Path(path)
        if not (folder / _CONFIG).is_file():
            folder = folder / "sae"
        if not (folder / _CONFIG).is_file() or not (folder / _WEIGHTS).is_file():
            raise WrongInput(
                f"`{path}` must be an SAE folder or a finished run; got no {_CONFIG} with {_WEIGHTS} in it or in "
                "its `sae` folder; give the folder that `distsae train --out` wrote, after training has ended"
            )
        names = {field.name for field in dataclasses.fields(SAEConfig)}
        try:
            content = json.loads((folder / _CONFIG).read_text())
            cfg = SAEConfig(**{name: value for name, value in content.items() if name in names})
        except (ValueError, TypeError, AttributeError) as error:
            raise TornData(f"{folder / _CONFIG} is damaged: {error}") from error
        try:
            tensors = load_file(folder / _WEIGHTS, device=str(device))
        except SafetensorError as error:
            raise TornData(f"{folder / _WEIGHTS} is damaged: {error}") from error
        return cls(cfg, **tensors)

    def _training_selector(self, tokens: int) -> Selector:
        selector = batch_selector(self.cfg.allocation, self.cfg.k, self.cfg.d_sae)
        if isinstance(selector, FeatureSelector):
            if self.quota_per_token is None:
                raise WrongInput("the training rule of Feature Choice needs `quota_per_token`; this SAE has none")
            selector.grant(QuotaCredit(self.quota_per_token, self.cfg.k).pay(tokens))
        return selector
