"""Whether a change of the code leaves every result as it was, bit for bit, against an earlier commit.

    python -m tests.benchmarks.unchanged_results --before COMMIT --model DIR --corpus FILE

Both versions make a store and train on it, each rule on 1x1 and 1x2, on the plain engine and on DeepSpeed. Compared
are the store's digests, every tensor of the last checkpoint, the SAE's file and every logged number but the time. Then
the code as it is now resumes runs that the earlier one left in the middle, and loads its SAEs. The earlier version is
checked out into a worktree of its own. With `--keep DIR` its results are made once and used again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
HOOK = "blocks.2.resid_post"
STEPS = 50
STORE = {"context_length": 64, "max_rows": 30000, "unit_rows": 8192, "chunk_rows": 1024, "heldout_share": 0.1}
TRAIN = {
    "hook": HOOK,
    "steps": STEPS,
    "batch_tokens": 1024,
    "sae.d_sae": 512,
    "sae.k": 16,
    "auxiliary.dead_after_tokens": 5000,
    "auxiliary.window_tokens": 8000,
    "checkpoint.every": 25,
    "log_every": 5,
    "wandb": "off",
}
RULES = {
    "token_choice": {"allocation": "token_choice", "aux": "aux_k"},
    "mutual_choice": {"allocation": "mutual_choice", "aux": "aux_zipf"},
    "feature_choice": {"allocation": "feature_choice", "aux": "none"},
    "mutual_then_feature": {
        **{"finetune_fc_from": 0.6, "quota_refresh": 7, "accumulation": 2, "ema_decay": 0.9},
        **{"sae.k_start": 32, "evaluate_every": 10},
    },
}
PLACES = {
    "1x1": {},
    "1x2": {"mesh.feature": 2},
    "2x1": {"mesh.data": 2},
    "1x2-deepspeed": {"mesh.feature": 2, "engine": "deepspeed"},
}
TIME = ("seconds", "tokens_per_second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="commit to compare with")
    parser.add_argument("--model", required=True, help="folder of a language model")
    parser.add_argument("--corpus", required=True, help="file of text")
    parser.add_argument("--keep", help="folder for the results of the earlier commit")
    parser.add_argument("--only_before", action="store_true", help="make the earlier results, compare nothing")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        earlier = Path(given.keep or scratch, "before").absolute()
        if not (earlier / "done").is_file():
            shutil.rmtree(earlier, ignore_errors=True)
            tree = Path(scratch, "tree")
            subprocess.run(["git", "worktree", "add", "--force", "--detach", tree, given.before], cwd=ROOT, check=True)
            try:
                make(tree, earlier, given.model, given.corpus)
            finally:
                subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
            (earlier / "done").touch()
        if not given.only_before:
            later = Path(scratch, "now")
            make(ROOT, later, given.model, given.corpus)
            sys.exit(1 if compare(earlier, later) else 0)


def make(tree: Path, out: Path, model: str, corpus: str) -> None:
    """Makes the store and all runs with the code in `tree`."""
    out.mkdir(parents=True)
    values = {"model": Path(model).absolute(), "corpus": Path(corpus).absolute(), "hooks": f"[{HOOK}]", **STORE}
    distsae(tree, out, "produce", {**values, "out": "store"})
    for rule, ruled in RULES.items():
        for place, placed in PLACES.items():
            train(tree, out, f"{rule}-{place}", {**ruled, **placed})


def train(tree: Path, out: Path, run: str, values: Mapping[str, object]) -> None:
    processes = 1 if not {"mesh.feature", "mesh.data"} & values.keys() else 2
    distsae(tree, out, "train", {"store": "store", "out": run, **TRAIN, **values}, processes)


def distsae(tree: Path, folder: Path, command: str, values: Mapping[str, object], processes: int = 1) -> None:
    """Runs the command line of `tree` in `folder`."""
    config = tree / "cluster_configs" / "cpu_2.yaml"
    launcher = ["-m", "accelerate.commands.launch", "--config_file", config] if processes > 1 else []
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "distsae", command, *words],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{tree}: distsae {command} {' '.join(words)}: {done.stdout}{done.stderr}")


def compare(earlier: Path, later: Path) -> int:
    """Prints a line for each thing that is compared; returns how many differ."""
    wrong = row("store", digests(earlier / "store"), digests(later / "store"))
    for rule, ruled in RULES.items():
        for place, placed in PLACES.items():
            run = f"{rule}-{place}"
            wrong += row(run, results(earlier / run), results(later / run))
            resumed = f"{run}-resumed"
            shutil.copytree(earlier / run, later / resumed)
            for name in ("sae", f"checkpoints/step-{STEPS:08d}"):
                shutil.rmtree(later / resumed / name)
            train(ROOT, later, resumed, {**ruled, **placed})
            wrong += row(resumed, results(earlier / run), results(later / resumed))
            wrong += row(f"{run} SAE loaded", loaded(earlier / run), loaded(later / run))
    return wrong


def row(name: str, before: Mapping[str, object], now: Mapping[str, object]) -> int:
    differ = [key for key in before.keys() | now.keys() if before.get(key) != now.get(key)]
    print(f"{name:<45} {len(before):>4} compared  {'equal' if not differ else f'DIFFER: {sorted(differ)}'}", flush=True)
    return bool(differ) or not before


def digests(store: Path) -> dict[str, object]:
    dataset = json.loads((store / "dataset.json").read_text())
    return {name: dataset[name] for name in ("content_digest", "rows", "statistics")}


def results(run: Path) -> dict[str, object]:
    """A digest of each tensor of the last checkpoint and of the SAE, and every logged number but the time."""
    files = [*(run / "checkpoints" / f"step-{STEPS:08d}").glob("*.safetensors"), *(run / "sae").glob("*.safetensors")]
    found: dict[str, object] = {
        f"{file.name}/{name}": hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        for file in files
        for name, tensor in load_file(file).items()
    }
    for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        found |= {f"step {line['step']} {name}": value for name, value in line.items() if name not in TIME}
    return found | {"frozen rule": (run / "frozen_rule.json").read_text()}


def loaded(run: Path) -> dict[str, object]:
    """A digest of each tensor of the SAE as the present code loads it, and of what it makes of a vector."""
    import torch

    from distsae import SAE

    sae = SAE.load(run)
    x = torch.linspace(-3, 3, sae.cfg.d_in)
    with torch.no_grad():
        tensors = {**sae.state_dict(), "x_hat": sae.decode(sae.encode(x))}
    return {name: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest() for name, value in tensors.items()}


if __name__ == "__main__":
    main()
