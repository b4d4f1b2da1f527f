"""Members that are trained by the code of other packages, in an interpreter of their own.

`worker.py` and the files named `*_trainer.py` are run by that interpreter: they import torch and the peer's package,
and nothing of distsae.
"""

from distsae.recipes.study.peers.catalogue import PEERS, Peer, check_peer
from distsae.recipes.study.peers.peer_run import check_peer_folder, train_peer

__all__ = ["PEERS", "Peer", "check_peer", "check_peer_folder", "train_peer"]
