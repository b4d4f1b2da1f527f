"""What another tool makes of a folder: `PEERS_PYTHON peer_side.py JOB`, run by the interpreter of the peers.

It imports torch and the tool's package, and nothing of distsae. JOB is a JSON object: `tool`; `folder` of the SAE;
`rows`, a .npy file of activations; `out`, an .npz file to write with `on`, the features that fire, as packed bits,
`acts`, their values row by row, and `x_hat`, the reconstruction.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCK = 1024


def sae_lens(folder: str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    from sae_lens import SAE

    sae: Any = SAE.load_from_disk(folder)
    return lambda x: (sae.encode(x), sae(x))


def dictionary_learning(folder: str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    from dictionary_learning.utils import load_dictionary

    sae, _ = load_dictionary(folder, "cpu")
    return lambda x: (sae.encode(x), sae(x))


def sparsify(folder: str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    from sparsify import SparseCoder

    sae = SparseCoder.load_from_disk(folder)

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        out = sae(x)
        dense = torch.zeros(len(x), sae.num_latents, dtype=out.latent_acts.dtype)
        return dense.scatter_(1, out.latent_indices, out.latent_acts), out.sae_out

    return both


TOOLS = {"saelens": sae_lens, "dictionary_learning": dictionary_learning, "sparsify": sparsify}


@torch.no_grad()
def main(argument: str) -> None:
    job = json.loads(argument)
    both = TOOLS[job["tool"]](job["folder"])
    x = torch.from_numpy(np.load(job["rows"]))
    found = [both(part) for part in x.split(BLOCK)]
    acts = torch.cat([part for part, _ in found]).float()
    x_hat = torch.cat([part for _, part in found]).float()
    on = acts > 0
    np.savez(job["out"], on=np.packbits(on.numpy()), acts=acts[on].numpy(), x_hat=x_hat.numpy())


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules must not pass for packages of that name
    main(sys.argv[1])
