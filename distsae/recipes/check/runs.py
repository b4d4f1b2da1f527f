"""Whether training here is reproducible: the same run twice, and once more from a checkpoint in its middle."""

from __future__ import annotations

from pathlib import Path

from distsae.checkpoint.names import step_name
from distsae.recipes.check.config import CheckConfig
from distsae.recipes.check.finding import Finding
from distsae.recipes.check.launched import run_launched
from distsae.recipes.check.rates import HOOK

__all__ = ["runs_found"]

_STEPS = 8
_D_SAE = 2048
_BATCH_TOKENS = 2048


def runs_found(config: CheckConfig, store: Path, folder: Path, processes: int, seconds: float) -> list[Finding]:
    """Trains three short runs with `accelerate launch`, and compares their SAEs byte by byte.

    Args:
        config: settings of the check.
        store: path of the store.
        folder: folder for the runs.
        processes: number of processes. They split the features; four or more, if they are even, also the tokens in two.
        seconds: time limit of each run.
    """
    data = 2 if processes >= 4 and processes % 2 == 0 else 1
    mesh = f"{data} x {processes // data}"
    words = [
        *("distsae", "train", "--store", str(store), "--hook", HOOK, "--wandb", "off"),
        *("--steps", str(_STEPS), "--batch_tokens", str(_BATCH_TOKENS)),
        *("--sae.d_sae", str(_D_SAE), "--sae.k", str(config.k), "--checkpoint.every", str(_STEPS // 2)),
        *("--mesh.data", str(data), "--mesh.feature", str(processes // data)),
    ]
    first, again, resumed = (folder / name for name in ("first", "again", "resumed"))
    twice, onwards = f"trained twice, mesh {mesh}", f"resumed, mesh {mesh}"
    for run in (first, again):
        launched = run_launched([*words, "--out", str(run)], processes, seconds)
        if launched.problem:
            return [
                Finding(twice, "failed", launched.problem),
                Finding(onwards, "skipped", "there is no run to resume"),
            ]
    found = [_compared(twice, first, again, "both runs")]
    middle = first / "checkpoints" / step_name(_STEPS // 2)
    launched = run_launched([*words, "--out", str(resumed), "--resume", str(middle)], processes, seconds)
    if launched.problem:
        return [*found, Finding(onwards, "failed", launched.problem)]
    return [*found, _compared(onwards, first, resumed, "the run and its continuation")]


def _compared(name: str, one: Path, other: Path, both: str) -> Finding:
    differing = sorted(
        path.name
        for path in (one / "sae").glob("*.safetensors")
        if path.read_bytes() != (other / "sae" / path.name).read_bytes()
    )
    if differing:
        return Finding(name, "failed", f"{both} have different bytes in {', '.join(differing)}")
    return Finding(name, "ok", f"{both} of {_STEPS} steps have the same SAE, byte by byte")
