"""SAEs of releases as SAELens itself reads them: `PEERS_PYTHON released_by_saelens.py JOB`; imports nothing of distsae.

JOB is a JSON object: `saes`, pairs of a release and an id in it; `rows`, a .npy file of activations; `out`, an .npz
file to write, with the feature activations `acts_N` and the reconstruction `x_hat_N` of the N-th one.
"""

import json
import sys

import numpy as np
import torch


@torch.no_grad()
def main(argument: str) -> None:
    from sae_lens import SAE

    job = json.loads(argument)
    x = torch.from_numpy(np.load(job["rows"]))
    found = {}
    for number, (release, sae_id) in enumerate(job["saes"]):
        sae = SAE.from_pretrained(release, sae_id, device="cpu")
        found[f"acts_{number}"] = sae.encode(x).numpy()
        found[f"x_hat_{number}"] = sae.decode(sae.encode(x)).numpy()
    np.savez(job["out"], **found)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules must not pass for packages of that name
    main(sys.argv[1])
