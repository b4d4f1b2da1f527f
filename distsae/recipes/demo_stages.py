"""The stages of `distsae demo`: a list of commands that a user could type."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from distsae.errors import WrongInput
from distsae.store.mounted_path import mounted_path

__all__ = ["HOOK", "PROCESSES", "RUNS", "DemoConfig", "Stage", "demo_stages", "embedded_model", "launch_config"]

HOOK = "blocks.2.resid_post"
PROCESSES = 2
CONTEXT_LENGTH = 128

RUNS: dict[str, tuple[str, ...]] = {
    "token_choice": ("--allocation", "token_choice", "--aux", "aux_k"),
    "mutual_choice": ("--allocation", "mutual_choice", "--aux", "aux_zipf"),
    "feature_choice": (
        *("--allocation", "mutual_choice", "--aux", "aux_zipf"),
        *("--finetune_fc_from", "0.7", "--quotas", "measured", "--quotas_hold", "every_batch"),
    ),
}
"""The options in which the three runs differ; all else is equal, `k` above all."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The size of the demo; with the defaults it takes a few minutes on two cores.

    Args:
        out: folder for all results of the demo; an unfinished demo there is continued.
        fresh: whether to remove an earlier demo in `out` and start again.
        max_rows: token rows to produce.
        d_sae: number of features of each SAE.
        k: mean matches per token.
        steps: optimizer steps of each training.
        batch_tokens: token rows of a batch.
        seed: seed of the order of contexts and rows and of the initial features.
    """

    out: str = "demo"
    fresh: bool = False
    max_rows: int = 400_000
    d_sae: int = 2048
    k: int = 16
    steps: int = 600
    batch_tokens: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", str(mounted_path(self.out, "out")))
        for name, least in {"max_rows": 20_000, "d_sae": 16, "k": 1, "steps": 10, "batch_tokens": 64}.items():
            if getattr(self, name) < least:
                raise WrongInput(f"`{name}` (={getattr(self, name)}) must be at least {least}; use a larger number")


@dataclass(frozen=True)
class Stage:
    """One command of the demo.

    Args:
        name: name under which the demo records that the stage is finished.
        title: line that tells the user what the stage does.
        command: program and arguments.
        product: file that exists when the stage is finished.
    """

    name: str
    title: str
    command: tuple[str, ...]
    product: Path


def embedded_model() -> Path:
    """Returns the folder of the language model that is part of distsae."""
    return Path(__file__).with_name("embedded_model")


def launch_config() -> Path:
    """Returns the config of accelerate for two CPU processes; `cluster_configs/cpu_2.yaml` is a copy of it."""
    return Path(__file__).with_name("cpu_2.yaml")


def demo_stages(config: DemoConfig) -> list[Stage]:
    """Returns the stages in order; their paths begin with `config.out` which is as the user wrote it but for `~`."""
    out = Path(config.out)
    corpus = out / "corpus.jsonl"
    store = out / "store"
    runs = [out / "runs" / name for name in RUNS]
    stages = [
        Stage(
            "corpus",
            "Collect the English text in this Python installation",
            (sys.executable, "-m", "distsae.recipes.embedded_corpus", str(corpus)),
            corpus,
        ),
        Stage(
            "produce", f"Text to activations, {PROCESSES} processes", _produce(config, corpus, store), _sealed(store)
        ),
    ]
    for (name, difference), run in zip(RUNS.items(), runs, strict=True):
        title = f"Train: {name.replace('_', ' ')}, features split over {PROCESSES} processes"
        stages.append(
            Stage(f"train_{name}", title, _train(config, store, run, difference), run / "sae" / "config.json")
        )
    for name, run in zip(RUNS, runs, strict=True):
        command = _distsae("evaluate", str(run), "--store", str(store), "--max_tokens", "12000")
        title = f"Evaluate: {name.replace('_', ' ')}"
        stages.append(Stage(f"evaluate_{name}", title, command, run / "evaluation.json"))
    last = runs[-1]
    command = _distsae("features", str(last), "--store", str(store), "--max_rows", "100000")
    pages = last / "features" / "features.json"
    stages.append(Stage("features", "A page about each feature of the last SAE", command, pages))
    report = out / "report"
    command = _distsae("report", *map(str, runs), "--out", str(report))
    stages.append(Stage("report", "Report", command, report / "index.html"))
    return stages


def _distsae(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "distsae", *arguments)


def _launched(*arguments: str) -> tuple[str, ...]:
    threads = max((os.cpu_count() or 1) // PROCESSES, 1)
    launcher = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(launch_config()))
    return (*launcher, "--num_cpu_threads_per_process", str(threads), "-m", "distsae", *arguments)


def _produce(config: DemoConfig, corpus: Path, store: Path) -> tuple[str, ...]:
    return _launched(
        "produce",
        *("--model", str(embedded_model())),
        *("--corpus", str(corpus)),
        *("--hooks", f"[{HOOK}]"),
        *("--out", str(store)),
        *("--context_length", str(CONTEXT_LENGTH)),
        *("--max_rows", str(config.max_rows)),
        *("--unit_rows", str(config.max_rows // 6)),  # enough units for two processes to share evenly
        *("--chunk_rows", "2048"),  # a small store is mixed better in small chunks
        *("--heldout_share", "0.05"),
        *("--seed", str(config.seed)),
    )


def _train(config: DemoConfig, store: Path, run: Path, difference: tuple[str, ...]) -> tuple[str, ...]:
    return _launched(
        "train",
        *("--store", str(store)),
        *("--hook", HOOK),
        *("--out", str(run)),
        *("--sae.d_sae", str(config.d_sae)),
        *("--sae.k", str(config.k)),
        *difference,
        *("--steps", str(config.steps)),
        *("--batch_tokens", str(config.batch_tokens)),
        *("--mesh.feature", str(PROCESSES)),
        *("--checkpoint.every", str(max(config.steps // 3, 1))),
        *("--wandb", "off"),
        *("--seed", str(config.seed)),
    )


def _sealed(store: Path) -> Path:
    return store / "dataset.json"
