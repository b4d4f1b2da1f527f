"""What `distsae train --dry_run` says a run will take, and what it takes.

    python -m tests.benchmarks.memory_plan

Every line is a run of its own from the first step to the written SAE, on a synthetic store in a temporary folder: six
steps, the auxiliary loss in use from the second on, checkpoints, calibration. Measured is the peak of resident memory
of the process of rank 0 (VmHWM): until training is done; and from then on, when Adam's moments and the copies for
checkpoints are gone. With `--heldout 81920` the rows that calibrate are as many as ever, and a wide SAE takes minutes
over them. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from distsae.parallel import MeshConfig
from distsae.planning import facts_of, memory_items, peak
from distsae.store import Store
from distsae.training import AuxiliaryConfig, CheckpointConfig, OptimizerConfig, SizeConfig, TrainConfig
from tests.benchmarks.random_store import synthetic_store

ROOT = Path(__file__).parents[2]
TOKENS = 2048
D_IN = 768
STEPS = 6
HELDOUT = 1 << 14
_UNIT_ROWS = 1 << 15


def config_of(store: Path, out: Path, d_sae: int, **changes: object) -> TrainConfig:
    """Returns a run of a few steps with everything in it."""
    config = TrainConfig(
        store=str(store),
        out=str(out),
        hook="random",
        steps=STEPS,
        batch_tokens=TOKENS,
        sae=SizeConfig(d_sae=d_sae),
        auxiliary=AuxiliaryConfig(dead_after_tokens=TOKENS, refresh_steps=1),
        wandb="off",
        log_every=1,
    )
    return replace(config, **changes)


def estimated(config: TrainConfig) -> tuple[float, float]:
    """Returns MiB until training is done and afterwards; run it in a process that has done nothing else."""
    items = memory_items([config], facts_of(Store.open(config.store), config))
    training, end = ("start", "select", "update", "save"), ("freeze", "write")
    return peak(items, moments=training) / 2**20, peak(items, moments=end) / 2**20


def measured(arguments: list[str], processes: int, folder: Path) -> dict[str, list[float]]:
    """Plans and runs a config in processes of their own; returns rank 0's MiB, estimated and measured."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable]
    if processes > 1:
        launcher = ROOT / "cluster_configs" / "cpu_2.yaml"
        command += ["-m", "accelerate.commands.launch", "--config_file", str(launcher)]
        command += ["--num_processes", str(processes)]
    result = folder / "result.json"
    found = {}
    for what, start in (("estimated", [sys.executable]), ("measured", command)):
        one = [*start, "-m", "tests.benchmarks.memory_plan", "--one", what, "--result", str(result), *arguments]
        done = subprocess.run(one, env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        found[what] = json.loads(result.read_text())
    return found


def _run(config: TrainConfig) -> tuple[float, float]:
    from distsae.training import run, train
    from distsae.training.freezing.frozen_sae import frozen_sae

    until_the_end = []

    def and_note(*arguments: Any) -> object:
        until_the_end.append(_peak())
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        return frozen_sae(*arguments)

    run.frozen_sae = and_note  # type: ignore[attr-defined]
    train(config)
    return until_the_end[0], _peak()


def _peak() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _one(what: str, result: Path, options: dict[str, Any]) -> None:
    changes = dict(options)
    data, feature = changes.pop("mesh", (1, 1))
    changes["mesh"] = MeshConfig(data=data, feature=feature)
    changes["checkpoint"] = CheckpointConfig(every=4, asynchronous=changes.pop("asynchronous", True))
    changes["optimizer"] = OptimizerConfig(
        state=changes.pop("state", "fp32"), divide_moments=changes.pop("divide_moments", False)
    )
    out = result.parent / "run"
    config = config_of(result.parent.parent / "store", out, changes.pop("d_sae"), **changes)
    numbers = estimated(config) if what == "estimated" else _run(config)
    if os.environ.get("RANK", "0") == "0":
        result.write_text(json.dumps(numbers))


CASES: dict[str, dict[str, object]] = {
    "32768": {"d_sae": 32768},
    "16384": {"d_sae": 16384},
    "65536": {"d_sae": 65536},
    "131072": {"d_sae": 131072},
    "65536, mesh 1 x 2": {"d_sae": 65536, "mesh": [1, 2]},
    "65536, mesh 2 x 1": {"d_sae": 65536, "mesh": [2, 1]},
    "65536, mesh 2 x 1, moments divided": {"d_sae": 65536, "mesh": [2, 1], "divide_moments": True},
    "65536, no prefilter, average": {"d_sae": 65536, "prefilter": "none", "ema_decay": 0.99},
    "65536, moments in int8": {"d_sae": 65536, "state": "int8"},
    "65536, Feature Choice": {"d_sae": 65536, "allocation": "feature_choice"},
    "65536, Token Choice, no aux": {"d_sae": 65536, "allocation": "token_choice", "aux": "none"},
    "65536, waiting for checkpoints": {"d_sae": 65536, "asynchronous": False},
    "32768, 2 x 1, deepspeed": {"d_sae": 32768, "mesh": [2, 1], "engine": "deepspeed"},
    "32768, 2 x 1, deepspeed, waiting": {
        "d_sae": 32768,
        "mesh": [2, 1],
        "engine": "deepspeed",
        "asynchronous": False,
    },
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=list(CASES))
    parser.add_argument("--heldout", type=int, default=HELDOUT)
    parser.add_argument("--one")
    parser.add_argument("--result", type=Path)
    parser.add_argument("options", nargs="?", type=json.loads)
    arguments = parser.parse_args()
    if arguments.one:
        _one(arguments.one, arguments.result, arguments.options)
        return
    print(
        f"{TOKENS} tokens, d_in {D_IN}, {arguments.heldout} held-out rows; MiB of rank 0: estimated, measured, ratio\n"
    )
    print("| d_sae | until training is done | | | from then on | | |\n" + "|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        rows = 2 * STEPS * TOKENS + arguments.heldout
        synthetic_store(Path(folder) / "store", rows, D_IN, _UNIT_ROWS, arguments.heldout)
        for number, name in enumerate(arguments.only):
            options: dict[str, Any] = CASES[name]
            data, feature = options.get("mesh", (1, 1))
            place = Path(folder) / f"{number}"
            place.mkdir()
            found = measured([json.dumps(options)], data * feature, place)
            pairs = zip(found["estimated"], found["measured"], strict=True)
            cells = " | ".join(f"{guess:.0f} | {real:.0f} | {guess / real:.3f}" for guess, real in pairs)
            print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
