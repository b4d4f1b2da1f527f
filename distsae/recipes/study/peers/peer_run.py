"""A member that a peer trains: the rows of our batches in their order, the peer's own steps, our files at the end."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from distsae import __version__
from distsae.batches import BatchReader, Normalisation
from distsae.checked_files import read_yaml_mapping
from distsae.durable import replace
from distsae.errors import Diverged, WrongInput
from distsae.model import SAEConfig
from distsae.model.sae_files import IN_RUN
from distsae.nested_keys import flat_keys
from distsae.progress import Progress, say
from distsae.recipes.study.grid import Member
from distsae.recipes.study.peers.catalogue import PEERS, Peer
from distsae.recipes.study.peers.conversion import converted, judged
from distsae.recipes.study.peers.handover import PeerProcess
from distsae.store import Store
from distsae.training import TrainConfig
from distsae.training.folder.metrics_file import MetricsFile
from distsae.training.freezing.heldout_rows import heldout_rows

__all__ = ["check_peer_folder", "max_norm_of", "normalisation_of", "peer_config", "train_peer"]


def train_peer(
    member: Member,
    base: TrainConfig,
    folder: Path,
    store: Store,
    python: str,
    peers: Mapping[str, Peer] = PEERS,
) -> None:
    """Trains a member from its first step to its SAE; an interrupted member starts anew, for no peer resumes exactly.

    Args:
        member: member whose method has a peer.
        base: config of the method, with `hook` and `steps`.
        folder: folder of the member.
        store: the store.
        python: interpreter of the peers.
        peers: peers by name.

    Raises:
        Diverged: an error or a score was not finite.
        CannotContinue: the peer's process ended.
    """
    assert member.method.peer is not None
    assert base.hook is not None
    assert base.steps is not None
    peer = peers[member.method.peer]
    name = member.method.normalise or peer.normalise
    max_norm = max_norm_of(base, store)
    normalisation = normalisation_of(store, base.hook, name, max_norm)
    folder.mkdir(parents=True, exist_ok=True)
    config = peer_config(member, base, peer)
    replace(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode())
    job = {
        "trainer": str(peer.trainer),
        "variant": peer.variant,
        "d_in": store.d_in(base.hook),
        "d_sae": member.d_sae,
        "k": member.k,
        "lr": None if member.lr == "auto" else member.lr,
        "seed": member.seed,
        "steps": base.steps,
        "batch_tokens": base.batch_tokens,
        "options": dict(member.method.options),
    }
    with PeerProcess(python, job, folder) as process:
        _steps(process, base, folder, store, max_norm, normalisation, member.method.name)
        weights, facts = process.finish()
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise Diverged("its weights are not finite after the last step")
    cfg = dataclasses.replace(
        _sae_config(member, base, store, peer),
        normalise=name,
        normalisation_scale=normalisation.scale,
        max_norm=max_norm,
    )
    calibration, judging = heldout_rows(store, base.hook, max_norm)
    found = converted(weights, cfg, normalisation, calibration.float())
    gap = judged(found.sae, judging, base.batch_tokens)
    replace(folder / "frozen_rule.json", _json(gap))
    record = {"peer": member.method.peer, "normalise": name, **found.facts(), "trainer": facts}
    replace(folder / "peer.json", _json(record))
    found.sae.save(folder / IN_RUN)  # last: it marks the member as finished


def max_norm_of(base: TrainConfig, store: Store) -> float | None:
    """Returns the norm over which rows are left out, as in our own trainings; None if all rows are kept."""
    assert base.hook is not None
    norms = store.norms(base.hook)
    return None if base.max_norm_ratio == "none" or norms is None else norms.limit(base.max_norm_ratio)


def normalisation_of(store: Store, hook: str, name: str, max_norm: float | None = None) -> Normalisation:
    """Returns a normalisation of the rows that a peer is given.

    Args:
        store: the store.
        hook: hook of the rows.
        name: one of `NORMALISATIONS`.
        max_norm: norm over which rows are left out; None if all rows are kept.
    """
    statistics = store.statistics(hook, max_norm)
    if name == "unit":
        mean_square = statistics.variance + float(statistics.mean.double().square().sum())
        return Normalisation(1 / math.sqrt(mean_square), None)
    return Normalisation.of(statistics, name)  # type: ignore[arg-type]  # `check_peer` knows the names


def peer_config(member: Member, base: TrainConfig, peer: Peer) -> dict[str, Any]:
    """Returns what `config.yaml` of a peer's member holds, by the keys of `distsae train` where they mean the same."""
    return {
        "store": base.store,
        "hook": base.hook,
        "seed": member.seed,
        "order_seed": base.seed_of_order,
        "steps": base.steps,
        "batch_tokens": base.batch_tokens,
        "max_norm_ratio": base.max_norm_ratio,
        "normalise": member.method.normalise or peer.normalise,
        "sae": {"d_sae": member.d_sae, "k": member.k},
        "allocation": peer.allocation,
        "aux": "its own",
        "optimizer": {"lr": member.lr},
        "peer": {"name": member.method.peer, "options": dict(member.method.options)},
    }


def check_peer_folder(member: Member, base: TrainConfig, folder: Path, peers: Mapping[str, Peer] = PEERS) -> None:
    """Refuses a folder that holds a member with other settings.

    Raises:
        WrongInput: it does; the text has both values.
    """
    assert member.method.peer is not None
    path = folder / "config.yaml"
    if not path.is_file():
        return
    earlier, now = (
        flat_keys(read_yaml_mapping(path, str(path))),
        flat_keys(peer_config(member, base, peers[member.method.peer])),
    )
    for key in sorted(set(earlier) | set(now) - {"store"}):
        if key != "store" and earlier.get(key) != now.get(key):
            raise WrongInput(
                f"`{key}` (={now.get(key)}) must be as in the member that was trained in {folder}; got "
                f"{earlier.get(key)} there; choose another `out`, or another `name` of the method"
            )


def _steps(
    process: PeerProcess,
    base: TrainConfig,
    folder: Path,
    store: Store,
    max_norm: float | None,
    normalisation: Normalisation,
    label: str,
) -> None:
    """Hands over all batches, and logs a line every `log_every` steps."""
    assert base.steps is not None
    metrics = MetricsFile(folder / "metrics.jsonl")
    metrics.keep_until(0)
    seconds = errors = variances = 0.0
    with Progress(base.steps, label, "steps") as progress:
        for step, rows in enumerate(_batches(base, store, max_norm), start=1):
            x = normalisation.apply(rows)
            started = time.monotonic()
            error = process.step(x)
            seconds += time.monotonic() - started
            if not math.isfinite(error):
                raise Diverged(f"its error was not finite at step {step}")
            errors += error
            variances += float((x - x.mean(0)).square().sum(1).mean())
            shown: dict[str, float | str] = {}
            if step % base.log_every == 0 or step == base.steps:
                fvu = errors / variances if variances > 0 else None
                tokens = step * base.batch_tokens
                line = {"step": step, "tokens": tokens, "loss": fvu, "fvu": fvu, "lr": None}
                line |= {"tokens_per_second": tokens / seconds, "seconds": seconds}
                if warning := metrics.append(line):
                    say(warning)
                errors, variances = 0.0, 0.0
                shown = {"fvu": fvu} if fvu is not None else {}
            progress.advance(1, **shown)


def _batches(base: TrainConfig, store: Store, max_norm: float | None) -> Iterator[Tensor]:
    """Yields the raw rows of each batch, fp32, without those over `max_norm`, in the order of training."""
    assert base.hook is not None
    assert base.steps is not None
    reader = BatchReader(store, base.hook, base.batch_tokens, base.seed_of_order, 0, 1, "none", max_norm)
    try:
        for step in range(base.steps):
            batch = reader.batch(step)
            kept = torch.ones(len(batch.x), dtype=torch.bool)
            if batch.left_out is not None:
                kept[batch.left_out] = False
            yield batch.x[kept]  # a copy
    finally:
        reader.close()


def _sae_config(member: Member, base: TrainConfig, store: Store, peer: Peer) -> SAEConfig:
    """Returns the config of a member's SAE, without what its rows were normalised by."""
    assert base.hook is not None
    assert base.steps is not None
    layer = re.search(r"\.(\d+)(?:\.|$)", base.hook)
    return SAEConfig(
        d_in=store.d_in(base.hook),
        d_sae=member.d_sae,
        k=member.k,
        allocation=peer.allocation,
        hook_name=base.hook,
        hook_layer=int(layer[1]) if layer else None,
        model_name=store.attributes.model,
        context_size=store.attributes.context_length,
        prepend_bos=store.attributes.prepend_bos,
        store_fingerprint=store.fingerprint,
        tokens_seen=base.steps * base.batch_tokens,
        distsae_version=__version__,
    )


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, default=str) + "\n").encode()
