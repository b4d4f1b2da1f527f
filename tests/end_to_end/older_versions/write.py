"""Writes what one version of distsae leaves on the disk, as a small archive that tests of later versions read.

    python -m tests.end_to_end.older_versions.write COMMIT

The commit is checked out into a worktree of its own. Its code makes a store of known rows, trains Mutual Choice and
then Feature Choice on it, and says what its SAE makes of eight rows. `DATE-COMMIT.tar.gz` beside this file holds the
store, the run with its checkpoints, and that answer. Do this before a release and before a format changes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
KEPT = ("store", "run", "answer.json")

STORE = """
import sys
from pathlib import Path
from tests.store.synthetic import write_store
write_store(Path(sys.argv[1]))
"""
TRAIN = (
    *("--hook", "a.b", "--steps", "6", "--batch_tokens", "64", "--sae.d_sae", "16", "--sae.k", "2"),
    *("--allocation", "mutual_choice", "--finetune_fc_from", "0.5", "--aux", "none"),
    *("--checkpoint.every", "2", "--log_every", "1", "--wandb", "off"),
)
ANSWER = """
import json, sys
import torch
from distsae import SAE
sae = SAE.load(sys.argv[1])
x = torch.arange(48).reshape(8, 6).mul(7).remainder(41).sub(20).float()
features = sae.encode(x)
try:
    x_hat = sae.decode(features, x)
except TypeError:
    x_hat = sae.decode(features)
json.dump({"x": x.tolist(), "feature_acts": features.tolist(), "x_hat": x_hat.tolist()}, open(sys.argv[2], "w"))
"""


def write(commit: str) -> Path:
    """Writes the archive of a commit; returns its path."""
    stamp = subprocess.run(
        ["git", "show", "-s", "--format=%cd-%h", "--date=format:%Y-%m-%d", "--abbrev=7", commit],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        tree, made = Path(scratch, "tree"), Path(scratch, "made")
        made.mkdir()
        subprocess.run(["git", "worktree", "add", "--force", "--detach", tree, commit], cwd=ROOT, check=True)
        try:
            _run(tree, made, "-c", STORE, "store")
            _run(tree, made, "-m", "distsae", "train", "--store", "store", "--out", "run", *TRAIN)
            _run(tree, made, "-c", ANSWER, "run", "answer.json")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
        archive = Path(__file__).with_name(f"{stamp}.tar.gz")
        with tarfile.open(archive, "w:gz") as tar:
            for name in KEPT:
                tar.add(made / name, name)
    return archive


def _run(tree: Path, folder: Path, *words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, *words], cwd=folder, env=environment, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="commit or tag to write with")
    print(write(parser.parse_args().commit))
