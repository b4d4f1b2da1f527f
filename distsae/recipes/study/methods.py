"""The methods of a study: sets that have a name, and what a user writes in their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distsae.errors import WrongInput, nearest
from distsae.nested_keys import flat_keys
from distsae.recipes.study.config import Rate
from distsae.training import AuxiliaryConfig, TrainConfig

__all__ = ["METHOD_SETS", "Method", "methods_of"]

_OWN = ("name", "peer", "options", "lr")
"""Keys of a method that are none of `distsae train`."""

_LONG_RUN = 10**9
"""Tokens of a training whose number of steps is not known here, since it follows from the store."""

_IN_THE_GRID = {"sae.k": "k", "sae.d_sae": "d_sae", "optimizer.lr": "lr", "seed": "seed"}
"""Keys of `distsae train` that the grid gives, by their names there."""

_OF_THE_STUDY = ("store", "out", "resume", "sweep")
"""Keys of `distsae train` that the study itself gives."""

_OF_A_PEER = ("normalise",)
"""Keys of `distsae train` that a peer's method may have of its own; it shares all others."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to train an SAE.

    Args:
        name: name in tables and figures.
        keys: keys of `distsae train` by dotted names, those that all methods share included.
        peer: name of the peer that trains it, one of `distsae.recipes.study.peers.PEERS`; None for distsae itself.
        options: keys of the peer's own config.
        normalise: normalisation of the rows that a peer is given; None for that of its own recipe.
        lr: learning rates to try; None for those of the grid.
    """

    name: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    peer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    normalise: str | None = None
    lr: tuple[Rate, ...] | None = None

    @property
    def folder(self) -> str:
        """Name of the folder of its members."""
        return re.sub(r"[^A-Za-z0-9.+_]+", "-", self.name).strip("-.") or "method"


_AS_IN_THE_PAPER = {"quotas_hold": "every_batch"}


def _paper(_: Mapping[str, Any]) -> list[dict[str, Any]]:
    token, mutual, feature = ({"allocation": f"{name}_choice"} for name in ("token", "mutual", "feature"))
    return [
        {"name": "TC", **token, "aux": "none"},
        {"name": "TC+aux_k", **token, "aux": "aux_k"},
        {"name": "MC", **mutual, "aux": "none"},
        {"name": "MC+aux_k", **mutual, "aux": "aux_k"},
        {"name": "MC+aux_zipf", **mutual, "aux": "aux_zipf"},
        {"name": "FC uniform", **feature, "aux": "none", "quotas": "uniform", **_AS_IN_THE_PAPER},
        {"name": "FC Zipf", **feature, "aux": "none", "quotas": "zipf", **_AS_IN_THE_PAPER},
        {
            **{"name": "MC then FC", **mutual, "aux": "aux_zipf", "quotas": "zipf", "finetune_fc_from": 0.7},
            **_AS_IN_THE_PAPER,
        },
    ]


def _ablations(common: Mapping[str, Any]) -> list[dict[str, Any]]:
    zipf: dict[str, Any] = {"allocation": "mutual_choice", "aux": "aux_zipf"}
    then_fc: dict[str, Any] = {**zipf, "quotas": "zipf", "finetune_fc_from": 0.7, **_AS_IN_THE_PAPER}
    window = _window(common)
    methods: list[dict[str, Any]] = [{"name": "MC", **zipf, "aux": "none"}, {"name": "MC+aux_zipf", **zipf}]
    methods += [{"name": f"rho {rho:g}", **zipf, "auxiliary.rho": rho} for rho in (0.03, 0.3, 1.0)]
    for title, tokens in (("a quarter of the window", max(window // 4, 1)), ("four times the window", 4 * window)):
        methods.append({"name": title, **zipf, "auxiliary.window_tokens": tokens})
    methods += [{"name": f"alpha 1/{parts}", **zipf, "auxiliary.alpha": 1 / parts} for parts in (8, 128)]
    methods += [{"name": f"{ratio:g} k for the aux", **zipf, "auxiliary.k_per_k": ratio} for ratio in (1.0, 8.0)]
    methods.append({"name": "MC then FC", **then_fc})
    methods += [{"name": f"FC from {share:g}", **then_fc, "finetune_fc_from": share} for share in (0.5, 0.9)]
    methods += [{"name": f"FC with {quotas} quotas", **then_fc, "quotas": quotas} for quotas in ("measured", "uniform")]
    methods.append({"name": "FC on average", **then_fc, "quotas_hold": "on_average"})
    methods.append({"name": "FC ranked anew", **then_fc, "quota_refresh": 50})
    return methods


def _window(common: Mapping[str, Any]) -> int:
    """Returns the density window of the trainings, which the ablations make shorter and longer."""
    auxiliary = AuxiliaryConfig(window_tokens=common.get("auxiliary.window_tokens", "auto"))
    steps = common.get("steps")
    batch_tokens = common.get("batch_tokens", TrainConfig.batch_tokens)
    return auxiliary.window(steps * batch_tokens if steps else _LONG_RUN)


def _peers(_: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": "SAELens BatchTopK", "peer": "sae_lens_batchtopk"},
        {"name": "SAELens Matryoshka", "peer": "sae_lens_matryoshka"},
        {"name": "dictionary_learning BatchTopK", "peer": "dictionary_learning_batchtopk"},
        {"name": "sparsify TopK", "peer": "sparsify_topk"},
    ]


METHOD_SETS: Mapping[str, Callable[[Mapping[str, Any]], list[dict[str, Any]]]] = {
    "paper": _paper,
    "ablations": _ablations,
    "peers": _peers,
}
"""Sets of methods by name: functions of the keys that all methods share, by dotted names."""


def methods_of(given: str | Sequence[str | Mapping[str, Any]], common: Mapping[str, Any]) -> tuple[Method, ...]:
    """Returns the methods of a study, those of sets written out; a method that two sets have is taken once.

    Args:
        given: name of a set, or a list of such names and of methods.
        common: keys of `distsae train` that all methods share, nested or by dotted names.

    Raises:
        WrongInput: an unknown set, a method without a name, two methods with one name, or a key that the grid gives.
    """
    shared = flat_keys(dict(common))
    _refuse_keys("common", shared)
    written: list[dict[str, Any]] = []
    for entry in [given] if isinstance(given, str) else given:
        if not isinstance(entry, str):
            written.append(dict(entry))
        elif entry in METHOD_SETS:
            written += [method for method in METHOD_SETS[entry](shared) if method not in written]
        else:
            known = ", ".join(METHOD_SETS)
            raise WrongInput(
                f"`methods` (={entry}) must name a set of methods, one of {known}{nearest(entry, METHOD_SETS)}"
            )
    methods = tuple(_method(entry, shared) for entry in written)
    if not methods:
        raise WrongInput("`methods` must hold at least one method; got none; use paper, for example")
    folders = [method.folder for method in methods]
    for method in methods:
        if folders.count(method.folder) > 1:
            raise WrongInput(
                f"`methods` must have names that differ in their letters and digits; got {method.name} more than once; "
                "choose another `name`"
            )
    return methods


def _method(entry: Mapping[str, Any], shared: Mapping[str, Any]) -> Method:
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        raise WrongInput(f"`methods` must give each method a `name`; got {dict(entry)}; add one")
    keys = flat_keys({key: value for key, value in entry.items() if key not in _OWN})
    _refuse_keys(f"method {name}", keys)
    rates = entry.get("lr")
    if rates is not None and not isinstance(rates, list | tuple):
        rates = [rates]
    for rate in rates or ():
        if rate != "auto" and (isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0):
            raise WrongInput(f"method {name}: `lr` (={rate}) must be positive, or auto; use a number such as 1e-3")
    if rates is not None and (not rates or len(set(rates)) < len(rates)):
        raise WrongInput(
            f"method {name}: `lr` (={rates}) must hold each value once, and at least one; correct the list"
        )
    peer = entry.get("peer")
    if peer is None and "options" in entry:
        raise WrongInput(
            f"method {name}: `options` are keys of a peer's config; give `peer` as well, or leave them out"
        )
    if peer is not None:
        for key in set(keys).difference(_OF_A_PEER):
            raise WrongInput(
                f"method {name}: `{key}` must not be given, because the peer trains by its own recipe; put keys of the "
                "peer's config into `options`"
            )
        shared = {key: value for key, value in shared.items() if key not in _OF_A_PEER}
    return Method(
        name=name,
        keys=shared if peer is not None else {**shared, **keys},
        peer=peer,
        options=dict(entry.get("options") or {}),
        normalise=keys.get("normalise") if peer is not None else None,
        lr=None if rates is None else tuple(rate if rate == "auto" else float(rate) for rate in rates),
    )


def _refuse_keys(place: str, keys: Mapping[str, Any]) -> None:
    for key in keys:
        if key in _IN_THE_GRID:
            raise WrongInput(f"`{key}` must not be in {place}; give its values as `{_IN_THE_GRID[key]}` of `grid`")
        if key.split(".")[0] in _OF_THE_STUDY:
            raise WrongInput(f"`{key}` must not be in {place}, because the study gives it; leave it out")
