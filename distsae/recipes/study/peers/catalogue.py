"""The peers that a study can train, and what each needs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distsae.errors import WrongInput, nearest
from distsae.model import NORMALISATIONS, AllocationName
from distsae.recipes.study.methods import Method

__all__ = ["PEERS", "Peer", "check_peer"]

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """A public trainer.

    Args:
        trainer: file whose `build` makes its trainer, run by the interpreter of the peers.
        package: name of the package that it needs.
        allocation: rule that it trains by.
        normalise: normalisation that its recipe asks for.
        variant: which of the trainers in the file.
    """

    trainer: Path
    package: str
    allocation: AllocationName
    normalise: str
    variant: str = ""


_SAE_LENS = _HERE / "sae_lens_trainer.py"

PEERS: Mapping[str, Peer] = {
    "sae_lens_batchtopk": Peer(_SAE_LENS, "sae-lens", "mutual_choice", "scale", "batchtopk"),
    "sae_lens_matryoshka": Peer(_SAE_LENS, "sae-lens", "mutual_choice", "scale", "matryoshka"),
    "dictionary_learning_batchtopk": Peer(
        _HERE / "dictionary_learning_trainer.py", "dictionary-learning", "mutual_choice", "unit"
    ),
    "sparsify_topk": Peer(_HERE / "sparsify_trainer.py", "eai-sparsify", "token_choice", "none"),
}
"""Peers by name."""


def check_peer(method: Method, python: str | None, peers: Mapping[str, Peer] = PEERS) -> None:
    """Refuses a method whose peer cannot be trained here; the peer's package is looked for, not imported.

    Args:
        method: method with a peer.
        python: interpreter of the peers' environment.
        peers: peers by name.

    Raises:
        WrongInput: the peer is unknown, its package is not installed there, or its rows cannot be normalised like that.
    """
    assert method.peer is not None
    if method.peer not in peers:
        raise WrongInput(
            f"`peer` (={method.peer}) must be a peer{nearest(method.peer, peers)}; known: {', '.join(peers)}"
        )
    if method.normalise is not None and method.normalise not in NORMALISATIONS:
        raise WrongInput(
            f"`normalise` (={method.normalise}) must be one of {', '.join(NORMALISATIONS)}"
            f"{nearest(method.normalise, NORMALISATIONS)}"
        )
    if python is None:
        raise WrongInput(
            "`peers_python` must be given, because a peer is trained by its own code; give the interpreter of an "
            "environment with its package, as --peers_python PEERS/bin/python"
        )
    package = peers[method.peer].package
    command = [python, "-c", f"import importlib.metadata as m; print(m.version({package!r}))"]
    if subprocess.run(command, capture_output=True).returncode:
        raise WrongInput(
            f"`peers_python` (={python}) must have the package {package}; got none; run: {python} -m pip install "
            f"{package}"
        )
