"""A peer that cannot be trained here is refused before any work."""

import sys
from pathlib import Path

import pytest

from distsae.errors import WrongInput
from distsae.recipes.study.methods import METHOD_SETS, Method
from distsae.recipes.study.peers import PEERS, Peer, check_peer

FAKE = {"fake": Peer(Path("fake.py"), "torch", "mutual_choice", "unit")}


def test_every_peer_has_its_trainer_and_a_method_with_a_name():
    assert all(peer.trainer.is_file() for peer in PEERS.values())
    assert [method["peer"] for method in METHOD_SETS["peers"]({})] == list(PEERS)


def test_a_peer_whose_package_is_there():
    check_peer(Method(name="m", peer="fake", normalise="centre"), sys.executable, FAKE)


@pytest.mark.parametrize(
    ("method", "python", "message"),
    [
        (Method(name="m", peer="fak"), sys.executable, "did you mean 'fake'"),
        (Method(name="m", peer="fake", normalise="units"), sys.executable, "did you mean 'unit'"),
        (Method(name="m", peer="fake"), None, "`peers_python` must be given"),
        (Method(name="m", peer="other"), sys.executable, "must have the package no-such-package"),
    ],
)
def test_wrong_peers(method, python, message):
    peers = FAKE | {"other": Peer(Path("other.py"), "no-such-package", "token_choice", "none")}
    with pytest.raises(WrongInput, match=message):
        check_peer(method, python, peers)
