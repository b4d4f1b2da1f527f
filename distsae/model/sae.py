"""The public SAE: frozen, on raw activations, with weights in the field's orientation.

A frozen SAE selects for each token alone. Token Choice does so anyway: it keeps the `k` largest scores of a token.
Mutual and Feature Choice select from a batch, so their frozen form keeps the scores above a threshold, one for all
features or one for each (a JumpReLU SAE).

An SAE that was trained with `normalise: token` encodes each row as if it had the norm `sqrt(d_in)`. Its feature
activations are those of the raw row, so that each reads as a length along the feature's decoder row, and only the
decoder bias depends on the row's norm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from distsae.allocation import (
    Matches,
    Placement,
    select,
)
from distsae.devices import device_named
from distsae.errors import TornData, WrongInput
from distsae.kernels import kernels_for
from distsae.model.attachment import Attachment, Edit, attached
from distsae.model.feature_shard import FeatureShard, score_chunks
from distsae.model.formats.foreign_sae import Given
from distsae.model.match_rule import MatchRule, selector_of
from distsae.model.sae_config import SAEConfig
from distsae.model.sae_digest import DTYPES
from distsae.model.sae_files import CONFIG, WEIGHTS
from distsae.model.sae_reading import read_sae
from distsae.model.sae_saving import KeptSAE
from distsae.model.sae_tensors import check_tensors
from distsae.model.training_rule import AllocationName
from distsae.row_scales import row_scales

__all__ = ["SAE", "MatchRule"]


class SAE(KeptSAE):
    """A sparse autoencoder on raw activations: `x_hat = encode(x) @ W_dec + b_dec`.

    With `normalise: token` in its config, `b_dec` is multiplied by the scale of the row, `||x|| / sqrt(d_in)`.

    Weights may be fp32, fp16, bf16 or fp64 (`sae.half()`), and all is computed in their dtype. Activations may have any
    other; `encode`, `decode` and `forward` return what they are given. Matches are always selected in fp32.

    Args:
        cfg: what the SAE is and where it came from; its `dtype` follows the weights.
        W_enc: encoder matrix, `[d_in, d_sae]`.
        W_dec: decoder matrix, `[d_sae, d_in]`, with rows of unit norm.
        b_enc: encoder bias, `[d_sae]`.
        b_dec: decoder bias, `[d_in]`; it is also subtracted from the input before encoding.
        threshold: score that a feature must exceed to fire, `[d_sae]`; None for Token Choice.
        quota_per_token: mean matches per token of each feature under Feature Choice, `[d_sae]`, which sum to `k`; None
            for the other rules.

    Raises:
        WrongInput: a tensor has another shape than `cfg` asks for, a rule with thresholds has none, or the weights have
            a dtype of another kind.
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
        check_tensors(cfg, W_enc, W_dec, b_enc, b_dec, threshold, quota_per_token)
        self.cfg = dataclasses.replace(cfg, dtype=DTYPES[W_enc.dtype])
        self.W_enc, self.W_dec = nn.Parameter(W_enc), nn.Parameter(W_dec)
        self.b_enc, self.b_dec = nn.Parameter(b_enc), nn.Parameter(b_dec)
        self.threshold: Tensor | None
        self.quota_per_token: Tensor | None
        self.register_buffer("threshold", threshold)
        self.register_buffer("quota_per_token", quota_per_token)
        self._scales: Tensor | None = None  # of the rows last encoded

    @property
    def normalises_rows(self) -> bool:
        """Whether the SAE brings each row to the norm `sqrt(d_in)` before it encodes it."""
        return self.cfg.normalise == "token"

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.W_enc.device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return self.W_enc.dtype

    def encode(self, x: Tensor) -> Tensor:
        """Returns the dense `feature_acts` `[..., d_sae]` of activations `[..., d_in]` under the frozen rule.

        Raises:
            WrongInput: `x` has another width, or whole numbers.
        """
        return self._encoded(x).to(x.dtype)

    def _encoded(self, x: Tensor) -> Tensor:
        centred, scales = self._centred(x)
        pre_acts = centred.to(self.dtype) @ self.W_enc + self.b_enc
        if self.threshold is not None:
            feature_acts = pre_acts.relu() * (pre_acts > self.threshold)
        else:
            top = pre_acts.relu().topk(self.cfg.k, dim=-1)
            feature_acts = torch.zeros_like(pre_acts).scatter(-1, top.indices, top.values)
        if scales is not None:
            self._scales = scales
            feature_acts = feature_acts * scales.to(self.dtype)
        return feature_acts

    def encode_sparse(self, x: Tensor, selection_mb: float | None = None) -> Matches:
        """Returns what `encode` would, as matches: at widths where `[..., d_sae]` does not fit.

        Args:
            x: activations, `[..., d_in]`; `token` in the matches counts these rows, flattened.
            selection_mb: MiB that one chunk of scores may take; by default 128, on a GPU 4096.

        Raises:
            WrongInput: `x` has another width, or whole numbers.
        """
        return self.matches(x.reshape(-1, x.shape[-1]) if x.dim() else x, selection_mb=selection_mb)

    def attach(
        self, model: nn.Module, *, spliced: bool = True, edit: Edit | None = None, keep_error: bool = False
    ) -> AbstractContextManager[Attachment]:
        """Returns a context in which each forward pass of a transformers model runs with this SAE at its hook.

        It yields what the last pass gave: activations, the rows that the SAE is for, their matches. Other rows keep
        their own activation. See `distsae.model.attachment.attached` for the arguments and errors.
        """
        return attached(self, model, spliced=spliced, edit=edit, keep_error=keep_error)

    def decode(self, feature_acts: Tensor, x: Tensor | None = None) -> Tensor:
        """Returns the reconstruction `[..., d_in]` of `feature_acts` `[..., d_sae]`.

        Args:
            feature_acts: feature activations, as `encode` returns them.
            x: activations that they are of, `[..., d_in]`. Only an SAE that normalises rows needs them, and only if
                they are not those that were encoded last.

        Raises:
            WrongInput: `x` is left out, and the activations that were encoded last have another shape.
        """
        decoded = feature_acts.to(self.dtype) @ self.W_dec
        if not self.normalises_rows:
            return (decoded + self.b_dec).to(feature_acts.dtype)
        scales = self._scales if x is None else row_scales(self._widened(x))
        if scales is None or scales.shape[:-1] != feature_acts.shape[:-1]:
            encoded = "none" if scales is None else f"{[*scales.shape[:-1]]}"
            raise WrongInput(
                f"`x` must be given to decode {[*feature_acts.shape[:-1]]} rows with an SAE that normalises rows; got "
                f"{encoded} encoded last; pass the activations as `x`"
            )
        return (decoded + (scales * self.b_dec).to(self.dtype)).to(feature_acts.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the reconstruction of activations `[..., d_in]` under the frozen rule."""
        return self.decode(self._encoded(x), x).to(x.dtype)

    @torch.no_grad()
    def matches(self, x: Tensor, rule: MatchRule = "frozen", selection_mb: float | None = None) -> Matches:
        """Selects the matches of a batch without ever holding the scores `[tokens, d_sae]`.

        Args:
            x: activations, `[tokens, d_in]`.
            rule: `"frozen"` for the frozen rule, `"training"` for the batch rule with these tokens as the global batch.
                For Token Choice the two are the same. `"per_token"` keeps the `k` largest scores of each token,
                whatever the SAE's own rule.
            selection_mb: MiB that one chunk of scores and the work of selecting from it may take; by default 128, on a
                GPU 4096. It does not change the matches.

        Returns:
            Matches sorted by token, then feature.

        Raises:
            WrongInput: `x` has another shape, or whole numbers; or the training rule is Feature Choice, and this SAE
                has no quotas.
        """
        if x.dim() != 2:
            raise WrongInput(f"`x` must have shape [tokens, {self.cfg.d_in}]; got {[*x.shape]}; flatten it to rows")
        tokens = x.shape[0]
        centred, scales = self._centred(x)
        centred = centred.float()
        (found,) = select(
            [selector_of(rule, self.cfg, self.threshold, self.quota_per_token, tokens)],
            lambda: score_chunks(self.W_enc.t(), self.b_enc, centred, selection_mb),
            Placement.solo(self.cfg.d_sae),
            tokens,
        )
        if scales is not None:
            found = Matches(found.token, found.feature, found.score * scales.float().squeeze(1)[found.token])
        return found.by_token()

    @torch.no_grad()
    def decode_matches(self, matches: Matches, x: Tensor) -> Tensor:
        """Returns the reconstruction of activations `x`, `[tokens, d_in]`, from their matches, sorted by token."""
        bias = row_scales(self._widened(x)) * self.b_dec if self.normalises_rows else self.b_dec
        found = Matches(matches.token, matches.feature, matches.score.to(self.dtype))
        decoded = kernels_for("auto", self.device).decode(found, self.W_dec.detach(), x.shape[0])
        return decoded + bias.to(self.dtype)

    @classmethod
    def from_shard(
        cls, shard: FeatureShard, k: int, allocation: AllocationName = "token_choice", threshold: Tensor | None = None
    ) -> SAE:
        """Returns an SAE with copies of the weights of a shard that holds all features, after steps by hand.

        It works on activations as the shard does: those that were normalised for training.

        Args:
            shard: the features, on one process.
            k: mean matches per token.
            allocation: rule of the SAE.
            threshold: score that a feature must exceed to fire, `[d_sae]`; None for Token Choice.

        Raises:
            WrongInput: the shard holds a part of the features, or the rule needs a threshold.
        """
        if shard.d_sae != len(shard.b_enc):
            raise WrongInput(f"`shard` must hold all {shard.d_sae} features; got {len(shard.b_enc)} of them")
        cfg = SAEConfig.of_unknown_origin(len(shard.b_dec), shard.d_sae, k, allocation)
        parts = {"W_enc": shard.W_enc.T, "W_dec": shard.W_dec, "b_enc": shard.b_enc, "b_dec": shard.b_dec}
        return cls(cfg, **{name: part.detach().clone() for name, part in parts.items()}, threshold=threshold)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        *,
        k: int | None = None,
        hook: str | None = None,
    ) -> SAE:
        """Reads an SAE from its folder, from that of the run that trained it, or from the Hugging Face Hub.

        The files may be those of SAELens, dictionary_learning or sparsify. A path that exists is never looked for on
        the Hub.

        Args:
            path: folder of the SAE or of the run; or `user/repository`, or `user/repository/folder`, on the Hub.
            device: device to put the weights on.
            dtype: dtype to bring the weights to; None for that of the files.
            k: mean matches per token, for files of another tool that do not say it.
            hook: hook of the activations, for files of another tool that do not say it.

        Raises:
            WrongInput: there is no SAE at `path`, or none that can be carried over; or this machine has no such device.
            TornData: a file is damaged, or is not what an SAE has; the text names the file.
        """
        device = device_named(device)
        cfg, tensors, folder = read_sae(path, Given(k=k, hook=hook))
        try:
            return cls(cfg, **{name: tensor.to(device, dtype) for name, tensor in tensors.items()})
        except WrongInput as error:
            raise TornData(f"{folder / WEIGHTS} does not go with {CONFIG}: {error}") from None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Changes dtype or device of the weights, for `half`, `to` and the like; the config follows."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.cfg = dataclasses.replace(self.cfg, dtype=DTYPES.get(self.dtype, str(self.dtype)))
        return self

    def _centred(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns what the encoder sees of each row, at least in fp32; and scales, if the SAE normalises rows."""
        rows = self._widened(x)
        scales = row_scales(rows) if self.normalises_rows else None
        return (rows if scales is None else rows / scales) - self.b_dec, scales

    def _widened(self, x: Tensor) -> Tensor:
        """Returns activations in the dtype of the weights, but at least in fp32, in which norms do not overflow."""
        if not x.is_floating_point() or x.shape[-1:] != (self.cfg.d_in,):
            raise WrongInput(
                f"`x` must have floating-point numbers in the shape [..., {self.cfg.d_in}]; got {x.dtype} "
                f"{[*x.shape]}; pass activations of `{self.cfg.hook_name}`"
            )
        return x.to(torch.promote_types(self.dtype, torch.float32))
