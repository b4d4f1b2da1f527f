"""A run that was stopped and started again is the run that was not, bit for bit: every tensor and every logged line.

A run with a checkpoint in the middle is trained to its end. A copy of its folder, without what came after that
checkpoint, is as a kill would leave it; the same command goes on in it, and both are compared. The heavy tests do 200
steps on either side, the second part in new processes:

    pytest tests/end_to_end/test_exact_resume.py -m heavy -s
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from distsae.checkpoint import facts_of
from distsae.producer import ProduceConfig, produce
from distsae.training import AuxiliaryConfig, CheckpointConfig, OptimizerConfig, SizeConfig, TrainConfig
from tests.distributed.meshed_runs import Layout, trained
from tests.distributed.processes import end_processes, run_on_mesh
from tests.end_to_end.launching import ENVIRONMENT

D_SAE = 300
K = 4
BATCH = 256
METHODS = {
    "TC": {"allocation": "token_choice", "aux": "aux_k"},
    "MC": {},
    "FC": {
        "allocation": "feature_choice",
        "quotas_hold": "every_batch",
        "sae": SizeConfig(d_sae=D_SAE, k=2),
        "zipf_s": 1.0,
        "zipf_q": 5.0,
    },
}
VARIANTS = {
    "FC on average": METHODS["FC"] | {"quotas_hold": "on_average"},
    "TC, k falls": {"allocation": "token_choice", "sae": SizeConfig(d_sae=D_SAE, k=K, k_start=9, k_anneal_share=0.8)},
    "MC, k falls": {"sae": SizeConfig(d_sae=D_SAE, k=K, k_start=9, k_anneal_share=0.8)},
    "MC in two parts": {"accumulation": 2},
    "FC in two parts": METHODS["FC"] | {"accumulation": 2},
    "MC, averaged, clipped": {"ema_decay": 0.95, "optimizer": OptimizerConfig(lr=2e-3, clip_norm=0.1)},
    "MC to FC before the stop": {"finetune_fc_from": 0.3, "quota_refresh": 6},
    "MC to FC after the stop": {"finetune_fc_from": 0.7, "quota_refresh": 6},
}
NUMBERS = {  # dtype of the store, of Adam's moments on the plain engine, of the product that finds candidates
    "fp32": ("fp32", "fp32", "none"),
    "bf16": ("bf16", "bf16", "bf16"),
    "int8": ("fp16", "int8", "bf16"),
}
PLAIN = [Layout((1, 1)), Layout((1, 2)), Layout((2, 1))]
ZERO = [Layout((1, 2), 1), Layout((2, 1), 2)]
TIMES = ("seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def store_of(tiny_model_dir, tiny_corpus, tmp_path_factory) -> Callable[[str], Path]:
    """Stores of some 5,000 rows by their dtype, made when asked for."""
    folder = tmp_path_factory.mktemp("stores")

    def store(dtype: str) -> Path:
        if not (folder / dtype).is_dir():
            produce(
                ProduceConfig(
                    model=str(tiny_model_dir),
                    corpus=str(tiny_corpus),
                    hooks=("blocks.1.resid_post",),
                    out=str(folder / dtype),
                    context_length=32,
                    max_rows=5000,
                    unit_rows=2000,
                    chunk_rows=256,
                    heldout_share=0.03,
                    dtype=dtype,
                    device="cpu",
                )
            )
        return folder / dtype

    return store


def _assert_same_end(
    method: str, numbers: str, layout: Layout, half: int, store_of: Callable[[str], Path], folder: Path, *, anew: bool
) -> None:
    """Trains `half` steps twice, straight and with a stop between; prints a line and asserts that nothing differs."""
    began = time.monotonic()
    dtype, moments, prefilter = NUMBERS[numbers]
    changes: dict[str, Any] = (METHODS | VARIANTS)[method]
    optimizer = changes.get("optimizer", OptimizerConfig(lr=2e-3))
    state = moments if layout.zero is None else "fp32"
    values = {
        "store": str(store_of(dtype)),
        "out": str(folder / "straight"),
        "steps": 2 * half,
        "batch_tokens": BATCH,
        "sae": SizeConfig(d_sae=D_SAE, k=K),
        # `half` is a multiple neither of the steps between lines nor of those between fits.
        "auxiliary": AuxiliaryConfig(rho=0.9, dead_after_tokens=500, window_tokens=2000, refresh_steps=3),
        "log_every": 7,
        "checkpoint": CheckpointConfig(every=half),
        "prefilter": prefilter,
        "wandb": "off",
    }
    config = TrainConfig(**(values | changes | {"optimizer": dataclasses.replace(optimizer, state=state)}))
    assert half % 7
    assert half % 3
    run_on_mesh(trained, layout.shape, layout.of(config), seconds=500)
    stopped = _as_killed(folder, half)
    point = stopped / "checkpoints" / f"step-{half:08d}" / "manifest.json"
    before = point.stat()
    if not anew:
        run_on_mesh(trained, layout.shape, layout.of(dataclasses.replace(config, out=str(stopped))))
    elif layout.shape == (1, 1):
        command = ["train", "--config", str(folder / "straight" / "config.yaml"), "--out", str(stopped)]
        subprocess.run([sys.executable, "-m", "distsae", *command], env=ENVIRONMENT, check=True, timeout=500)
    else:
        end_processes()
        run_on_mesh(trained, layout.shape, layout.of(dataclasses.replace(config, out=str(stopped))), seconds=500)
    assert point.stat().st_ino == before.st_ino, "it began from step 0 and saved this anew"
    tensors, differing = _differences(folder / "straight", stopped, 2 * half)
    print(
        f"{method}, {numbers}, {layout}: {half} + {half} steps, {tensors} tensors, differing: {len(differing)} "
        f"({time.monotonic() - began:.0f} s)"
    )
    assert differing == []


def _as_killed(folder: Path, step: int) -> Path:
    """Copies the straight run as it was some steps after its checkpoint of `step`; its metrics are ahead of that."""
    stopped = folder / "stopped"
    shutil.copytree(folder / "straight", stopped)
    shutil.rmtree(stopped / "sae")
    (stopped / "frozen_rule.json").unlink()
    shutil.rmtree(stopped / "checkpoints" / f"step-{2 * step:08d}")
    (stopped / "checkpoints" / "latest").write_text(f"step-{step:08d}\n")
    lines = (stopped / "metrics.jsonl").read_text().splitlines(keepends=True)
    (stopped / "metrics.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])
    return stopped


def _differences(straight: Path, stopped: Path, step: int) -> tuple[int, list[str]]:
    """Returns how many tensors the last checkpoint has, and the names of all that is not equal in both runs."""
    one, other = (_contents(out, step) for out in (straight, stopped))
    assert one.keys() == other.keys()
    tensors = sum(name.startswith("tensor ") for name in one)
    assert tensors >= 20
    return tensors, [name for name in one if one[name] != other[name]]


def _contents(out: Path, step: int) -> dict[str, object]:
    """What a run has come to, without times and its own path."""
    point = out / "checkpoints" / f"step-{step:08d}"
    done, facts = facts_of(point)
    facts["config"].pop("out")
    for name in ("seconds", "window_seconds"):
        facts["meter"].pop(name)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    config = yaml.safe_load((out / "config.yaml").read_text())
    config.pop("out")
    found: dict[str, object] = {
        "step": done,
        "facts": facts,
        "metrics": json.dumps([{name: line[name] for name in line if name not in TIMES} for line in lines]),
        "config": config,
        "frozen rule": (out / "frozen_rule.json").read_bytes(),
        **{f"sae/{file.name}": file.read_bytes() for file in (out / "sae").iterdir()},
    }
    for file in sorted(point.glob("*.safetensors")):
        for name, tensor in load_file(file).items():
            bits = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            found[f"tensor {name} in {file.name}"] = (tensor.dtype, tuple(tensor.shape), bits)
    return found


@pytest.mark.parametrize(
    ("method", "numbers", "layout"),
    [
        ("FC", "bf16", Layout((1, 2))),
        ("TC, k falls", "fp32", Layout((2, 1))),
        ("MC to FC before the stop", "int8", Layout((2, 1))),
        ("MC to FC after the stop", "bf16", Layout((2, 2))),
        ("MC in two parts", "fp32", Layout((1, 3))),
        ("MC", "bf16", Layout((2, 1), 2)),
        ("FC in two parts", "fp32", Layout((1, 2), 1)),
    ],
    ids=str,
)
def test_a_resumed_run_is_the_straight_run(method, numbers, layout, store_of, tmp_path):
    if layout.zero is not None:
        pytest.importorskip("deepspeed")
    _assert_same_end(method, numbers, layout, 10, store_of, tmp_path, anew=False)


def _matrix() -> list[tuple[str, str, Layout]]:
    cases = [(method, numbers, layout) for method in METHODS for layout in PLAIN for numbers in ("fp32", "bf16")]
    cases += [(method, numbers, layout) for method in METHODS for layout in ZERO for numbers in ("fp32", "bf16")]
    cases += [(method, "int8", Layout((1, 2))) for method in METHODS]
    for method in VARIANTS:
        cases += [
            (method, "fp32", Layout((2, 1))),
            (method, "int8", Layout((1, 2))),
            (method, "bf16", Layout((2, 1), 2)),
        ]
    return cases


@pytest.mark.heavy
@pytest.mark.parametrize(("method", "numbers", "layout"), _matrix(), ids=str)
def test_400_steps_are_200_and_200(method, numbers, layout, store_of, tmp_path):
    if layout.zero is not None:
        pytest.importorskip("deepspeed")
    _assert_same_end(method, numbers, layout, 200, store_of, tmp_path, anew=True)


def test_the_comparison_sees_a_last_bit_and_a_line(store_of, tmp_path):
    _assert_same_end("FC", "bf16", Layout((1, 1)), 20, store_of, tmp_path, anew=False)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    (file,) = (stopped / "checkpoints" / "step-00000040").glob("feature-*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    metrics = (stopped / "metrics.jsonl").read_text()
    (stopped / "metrics.jsonl").write_text(re.sub(r'(?<="second_passes": )\d+', "1000", metrics, count=1))
    _, differing = _differences(straight, stopped, 40)
    assert len(differing) == 2
    assert differing[0] == "metrics"
    assert differing[1].startswith("tensor ")
    quotas = load_file(file)["quotas.per_token"]
    assert 0 < int((quotas * BATCH < 1).sum()) < D_SAE, "fractions of a match are what credit is for"
